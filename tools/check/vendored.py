"""Tell a candidate's own shared libraries from copies of somebody else's. Standard library only."""

from __future__ import annotations

import contextlib
import functools
import os
import stat
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

_LEAST_BYTES = 256 << 10
"""Smaller libraries are not looked at: what a vendor's routine needs is larger, what a candidate builds is mostly smaller."""
_PAGE = 4096
_PLACES = 24
_ENOUGH = 0.5
_PATTERNS = ("torch/lib/*.so*", "*.libs/*.so*", "nvidia/*/lib/*.so*", "numpy/_core/*.so*", "scipy/linalg/*.so*", "onnxruntime/capi/*.so*")
_SYSTEM = ("/usr/lib/*/lib*blas*.so*", "/usr/lib/*/*blas*/lib*.so*", "/opt/intel/oneapi/*/*/lib/*.so*")


def copied_libraries(paths: Sequence[str], cache: Path) -> frozenset[str]:
    """Return those of the mapped libraries below a candidate's cache that are copies of installed ones, also with a changed name, end or head.

    Pages at the same places are compared: a copy keeps most of them.
    """
    return frozenset(path for path in paths if Path(path).is_relative_to(cache) and _is_copy(Path(path)))


def _is_copy(path: Path) -> bool:
    size = _regular_size(path)
    if size < _LEAST_BYTES:
        return False
    places = [size * number // (_PLACES + 1) // _PAGE * _PAGE for number in range(1, _PLACES + 1)]
    own = {place: page for place, page in zip(places, _pages(path, places), strict=True) if len(set(page)) > 1}
    if not own:
        return False
    return any(
        sum(mine == theirs for mine, theirs in zip(own.values(), _pages(other, list(own)), strict=True)) >= _ENOUGH * len(own)
        for other, length in _installed()
        if length >= size // 2
    )


def _pages(path: Path, places: Sequence[int]) -> list[bytes]:
    with contextlib.suppress(OSError):
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            return [os.pread(fd, _PAGE, place) for place in places]
        finally:
            os.close(fd)
    return [b""] * len(places)


def _regular_size(path: Path) -> int:
    with contextlib.suppress(OSError):
        status = path.lstat()
        return status.st_size if stat.S_ISREG(status.st_mode) else 0
    return 0


@functools.cache
def _installed() -> tuple[tuple[Path, int], ...]:
    return tuple((path, size) for path in dict.fromkeys(_candidates()) if (size := _regular_size(path)) >= _LEAST_BYTES)


def _candidates() -> Iterator[Path]:
    for entry in sys.path:
        if entry and Path(entry).is_dir():
            for pattern in _PATTERNS:
                yield from (path.resolve() for path in Path(entry).glob(pattern))
    for pattern in _SYSTEM:
        yield from (path.resolve() for path in Path("/").glob(pattern.lstrip("/")))
