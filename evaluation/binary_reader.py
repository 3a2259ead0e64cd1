"""Read what a GPU kernel's binary says about itself, without the toolchain that the resource report asks.

A cubin: the attributes of its `.nv.info` sections and the symbols of its ELF tables, decoded here. An HSACO: the metadata note, as llvm-readelf prints it.
Layouts: System V ABI (ELF64); the attribute numbers as `cuobjdump -elf` names them; the note as in LLVM's AMDGPU usage guide, code object V5.
"""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass

_REGISTERS, _FRAME = 0x2F, 0x11
"""EIATTR_REGCOUNT and EIATTR_FRAME_SIZE: each a pair (symbol, value)."""
_CUDA, _AMDGPU = 190, 224
"""ELF machine numbers."""


@dataclass(frozen=True)
class BinaryFacts:
    """What a binary states; None: it does not say, or the reader is missing."""

    reader: str
    registers: int | None = None
    """Per thread (lane); on AMD architectural and accumulation registers together."""
    local_bytes: int | None = None
    """Local memory (scratch) of one thread, in bytes."""
    shared_bytes: int | None = None
    """Shared memory (LDS) that the binary itself fixes, in bytes; None where it is asked for at the launch."""


def read_binary(binary: bytes) -> BinaryFacts:
    """Return what a cubin or HSACO states.

    Raises:
        ValueError: It is neither.
    """
    machine = int.from_bytes(binary[0x12:0x14], "little")
    if binary[:4] != b"\x7fELF" or machine not in (_CUDA, _AMDGPU):
        raise ValueError(f"neither a cubin nor an HSACO: it begins with {binary[:4]!r}, machine {machine}")
    return _cubin(binary) if machine == _CUDA else _hsaco(binary)


def entry_points(cubin: bytes) -> list[str]:
    """Return the names of the kernels in a cubin: those of its `.text.` sections."""
    return [name.removeprefix(".text.") for name, _ in sections(cubin) if name.startswith(".text.")]


def sections(binary: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield name and contents of each section of a 64-bit little-endian ELF file; contents are empty where the file holds none."""
    offset, (size, count, names_index) = int.from_bytes(binary[0x28:0x30], "little"), struct.unpack_from("<HHH", binary, 0x3A)
    headers = [struct.unpack_from("<IIQQQQ", binary, offset + number * size) for number in range(count)]
    names = headers[names_index][4]
    for name, kind, _, _, start, length in headers:
        at = names + name
        yield binary[at : binary.index(b"\0", at)].decode(), b"" if kind == 8 else binary[start : start + length]


def _cubin(cubin: bytes) -> BinaryFacts:
    found: dict[int, int] = {}
    for name, data in sections(cubin):
        if name == ".nv.info":
            for attribute, value in _attributes(data):
                found[attribute] = max(value, found.get(attribute, 0))
    return BinaryFacts("ELF attributes", found.get(_REGISTERS), found.get(_FRAME))


def _attributes(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield (attribute, value) of the pairs in a `.nv.info` section. Each entry is format, attribute, then a value (format 3 or less) or a sized block (4)."""
    at = 0
    while at + 4 <= len(data):
        form, attribute, size = data[at], data[at + 1], int.from_bytes(data[at + 2 : at + 4], "little")
        at += 4
        if form == 4:
            if size == 8:
                yield attribute, int.from_bytes(data[at + 4 : at + 8], "little")
            at += size


def _hsaco(hsaco: bytes) -> BinaryFacts:
    tool = shutil.which("llvm-readelf") or shutil.which("llvm-readobj")
    if tool is None:
        return BinaryFacts("llvm-readelf is not installed")
    with tempfile.NamedTemporaryFile(suffix=".hsaco") as file:
        file.write(hsaco)
        file.flush()
        text = subprocess.run([tool, "--notes", file.name], capture_output=True, text=True, timeout=60, check=False).stdout
    values = {name: int(value) for name, value in re.findall(r"^\s*(?:- )?\.(\w+):\s+(\d+)\s*$", text, re.MULTILINE)}
    return BinaryFacts(
        "llvm-readelf", values.get("vgpr_count"), values.get("private_segment_fixed_size"), values.get("group_segment_fixed_size") or None
    )
