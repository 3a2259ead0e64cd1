"""Read what an AMD kernel needs from its AMDGCN assembly."""

from __future__ import annotations

import re
from collections.abc import Mapping

_LOAD = re.compile(
    r"\b(?:global|buffer|flat)_load_(?:lds_)?(?P<kind>dwordx(?P<words>\d)|dword|ushort|short_d16\w*|sshort|ubyte|sbyte|b(?P<bits>\d+)|u(?P<ubits>\d+))\b"
)
_BYTES = {"dword": 4, "ushort": 2, "sshort": 2, "ubyte": 1, "sbyte": 1}


def resource_usage(assembly: str) -> tuple[int, int, int]:
    """Return vector registers per lane (architectural and accumulation), scratch bytes per lane, and waves per SIMD that the registers allow.

    Raises:
        ValueError: The assembly lacks the compiler's summary.
    """
    found = {}
    for name in ("TotalNumVgprs", "ScratchSize", "Occupancy"):
        match = re.search(rf"^; {name}: (\d+)", assembly, re.MULTILINE)
        if match is None:
            raise ValueError(f"the assembly has no line `; {name}:`")
        found[name] = int(match[1])
    return found["TotalNumVgprs"], found["ScratchSize"], found["Occupancy"]


def instruction_mix(assembly: str) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Return the kinds of matrix instruction, and the bytes per lane of each load from device memory."""
    shapes = sorted(set(re.findall(r"\bv_s?mfma\w*?_(\d+x\d+x\d+)", assembly)))
    return tuple(f"mfma {shape}" for shape in shapes), tuple(_width(match) for match in _LOAD.finditer(assembly))


def _width(match: re.Match[str]) -> int:
    if match["words"]:
        return 4 * int(match["words"])
    bits = match["bits"] or match["ubits"]
    if bits:
        return int(bits) // 8
    return _BYTES.get(match["kind"], 2)


def blocks_per_multiprocessor(limits: Mapping[str, float], *, waves_per_simd: int, shared_bytes: int, num_warps: int) -> dict[str, int]:
    """Return how many blocks fit on one compute unit by each resource (ROCm workload guide)."""
    waves = waves_per_simd * int(limits["simds_per_multiprocessor"])
    most = int(limits["max_warps_per_multiprocessor"])
    by_shared = int(limits["shared_memory_per_multiprocessor_bytes"]) // shared_bytes if shared_bytes else most
    return {"registers": waves // num_warps, "shared_memory": by_shared, "warps": most // num_warps}
