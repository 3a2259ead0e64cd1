"""Read what an NVIDIA kernel needs from its cubin and PTX."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tools.errors import MachineError

_USAGE = re.compile(r"REG:(\d+) STACK:(\d+) SHARED:(\d+) LOCAL:(\d+)")
_LOAD = re.compile(r"\bld\.global(?P<modifiers>(?:[.:]+\w+)*?)(?:\.v(?P<vector>\d))?\.[bufs](?P<bits>\d+)\b")
_ASYNC = re.compile(r"\bcp\.async\.(?:ca|cg)\.shared\.global(?:\.[\w:]+)*\s+\[[^\]]*\],\s*\[[^\]]*\],\s*(?P<bytes>0x[0-9a-fA-F]+|\d+)")
_MMA = (("tcgen05", r"\btcgen05\.mma"), ("wgmma", r"\bwgmma\.mma_async"), ("mma.sync", r"\bmma\.sync"))


def resource_usage(cubin: bytes) -> tuple[int, int]:
    """Return registers per thread and bytes per thread in local memory (stack), as cuobjdump reads them.

    Raises:
        MachineError: cuobjdump is missing or does not understand the cubin.
    """
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        try:
            output = subprocess.run([_cuobjdump(), "-res-usage", file.name], capture_output=True, text=True, timeout=60, check=True).stdout
        except (OSError, subprocess.SubprocessError) as error:
            raise MachineError(f"cuobjdump of the triton package failed: {error}; reinstall triton") from error
    match = _USAGE.search(output)
    if match is None:
        raise MachineError(f"cuobjdump printed no resource usage: {output[:200]!r}")
    return int(match[1]), max(int(match[2]), int(match[4]))


def elf_registers(cubin: bytes) -> int:
    """Return registers per thread from the cubin's own section attributes, without any NVIDIA tool.

    The `.nv.info` section holds attributes; EIATTR_REGCOUNT (0x2f) of size 8 is a pair (symbol, registers).

    Raises:
        ValueError: The cubin has no such attribute.
    """
    header = int.from_bytes(cubin[0x28:0x30], "little")
    size, count, names_index = (int.from_bytes(cubin[at : at + 2], "little") for at in (0x3A, 0x3C, 0x3E))
    sections = [cubin[header + i * size : header + (i + 1) * size] for i in range(count)]

    def field(section: bytes, at: int) -> int:
        return int.from_bytes(section[at : at + 8], "little")

    names = field(sections[names_index], 0x18)
    for section in sections:
        start = names + int.from_bytes(section[:4], "little")
        if cubin[start : cubin.index(b"\0", start)] == b".nv.info":
            data = cubin[field(section, 0x18) : field(section, 0x18) + field(section, 0x20)]
            for at in range(0, len(data) - 11, 4):
                if data[at] == 0x04 and data[at + 1] == 0x2F and data[at + 2 : at + 4] == b"\x08\x00":
                    return int.from_bytes(data[at + 8 : at + 12], "little")
    raise ValueError("the cubin has no register count attribute")


def instruction_mix(ptx: str) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Return the kinds of matrix instruction, and the bytes per thread of each global load (asynchronous copies included)."""
    kinds = tuple(name for name, pattern in _MMA if re.search(pattern, ptx))
    widths = [int(match["bits"]) // 8 * int(match["vector"] or 1) for match in _LOAD.finditer(ptx)]
    widths += [int(match["bytes"], 0) for match in _ASYNC.finditer(ptx)]
    if "cp.async.bulk.tensor" in ptx:
        kinds = (*kinds, "tma")
    return kinds, tuple(widths)


def is_only_a_trap(ptx: str) -> bool:
    """Tell whether the compiler left nothing of the kernel but a trap: it touches no memory. Seen with Triton 3.7.1 for sm_100 on some pipelined dots."""
    return re.search(r"^\s*trap;", ptx, re.MULTILINE) is not None and re.search(r"\b(?:st|red|atom|cp)\.", ptx) is None


def blocks_per_multiprocessor(limits: Mapping[str, float], *, registers: int, shared_bytes: int, num_warps: int) -> dict[str, int]:
    """Return how many blocks fit on one multiprocessor by each resource.

    Registers are allocated per warp in units of 256 from the quarter of the file that the warp's scheduler owns; shared memory takes 1 KB more per block for the system.
    """
    partitions = int(limits["partitions_per_multiprocessor"])
    unit = int(limits["register_allocation_per_warp"])
    per_warp = -(-registers * int(limits["warp_size"]) // unit) * unit
    warps_by_registers = int(limits["registers_per_multiprocessor"]) // partitions // max(per_warp, 1) * partitions
    shared = -(-shared_bytes // 128) * 128 + int(limits["shared_memory_reserved_per_block_bytes"])
    return {
        "registers": warps_by_registers // num_warps,
        "shared_memory": int(limits["shared_memory_per_multiprocessor_bytes"]) // shared,
        "warps": int(limits["max_warps_per_multiprocessor"]) // num_warps,
        "blocks": int(limits["max_blocks_per_multiprocessor"]),
    }


def _cuobjdump() -> str:
    import triton

    path: Any = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    return str(path)
