"""Formats by name, and the choice of one for a file: by its content alone."""

from __future__ import annotations

import io
from pathlib import Path
from typing import BinaryIO

from tools.profiling.derive import with_derived
from tools.profiling.errors import ReportError
from tools.profiling.formats.base import Format
from tools.profiling.formats.chrome import ChromeTrace
from tools.profiling.formats.ncu import NcuCsv
from tools.profiling.formats.proton import ProtonTree
from tools.profiling.formats.record import RecordJson
from tools.profiling.formats.rocprof import RocprofCsv
from tools.profiling.formats.tritonparse import TritonParse
from tools.profiling.source import Report
from tools.profiling.types import Profile

FORMATS: dict[str, type[Format]] = {
    "record": RecordJson,
    "tritonparse": TritonParse,
    "chrome_trace": ChromeTrace,
    "proton_tree": ProtonTree,
    "rocprof_csv": RocprofCsv,
    "ncu_csv": NcuCsv,
}
"""In the order in which they are tried: the least forgiving first."""


def format_of(head: str) -> Format | None:
    """Return the format of a text by its beginning, None if it is none of them."""
    return next((found for kind in FORMATS.values() if (found := kind()).accepts(head)), None)


def read_profile(stream: BinaryIO, name: str) -> Profile:
    """Return the profile in a profiler's file, with figures that follow from those it states.

    Raises:
        ReportError: The file is empty, damaged before its first figure, too large, or of no known format.
    """
    report = Report(name, stream)
    found = format_of(report.head)
    if found is None:
        raise ReportError(name, "unknown_format", f"not a file of a profiler that can be read; known formats: {', '.join(FORMATS)}")
    return with_derived(found.read(report))


def read_profile_file(path: Path) -> Profile:
    """Like `read_profile`, for a path.

    Raises:
        ReportError: As there, or the file cannot be read.
    """
    try:
        with path.open("rb") as stream:
            return read_profile(stream, path.name)
    except OSError as error:
        raise ReportError(path.name, "failed", f"cannot be read: {error}") from error


def read_profile_bytes(data: bytes, name: str) -> Profile:
    """Like `read_profile`, for bytes at hand."""
    return read_profile(io.BytesIO(data), name)
