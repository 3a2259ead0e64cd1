"""Tables as profilers print them: CSV with other output around it, `,` or `;` between cells."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence

from tools.profiling.errors import ReportError
from tools.profiling.numerals import Style, decimal_style
from tools.profiling.source import Report

MAX_LINES_BEFORE = 20_000
"""Output of the profiled program that may stand before the table."""

Recognise = Callable[[Sequence[str]], bool]
"""Tells whether cells are the header of a table."""


def header_in(head: str, recognise: Recognise) -> tuple[int, str, list[str]] | None:
    """Return the header's line (from 0), the delimiter and the cells; None if there is none."""
    for index, line in enumerate(head.split("\n")[:MAX_LINES_BEFORE]):
        if line.startswith("==") or not ("ernel" in line or "Calls" in line):  # every header has one of them
            continue
        for delimiter in (",", ";", "\t"):
            if delimiter in line:
                cells = _cells(line, delimiter)
                if recognise(cells):
                    return index, delimiter, cells
    return None


def style_of(head: str, delimiter: str) -> Style:
    """Return how numbers in the beginning of a table are written. With `,` between bare cells no decimal comma is possible."""
    quoted: list[str] = []
    bare: list[str] = []
    for line in head.split("\n")[:3000]:
        (quoted if '"' in line else bare).extend(_cells(line, delimiter))
    if delimiter == ",":
        quoted = [cell for line in head.split("\n")[:3000] for cell in _quoted_cells(line)]
        bare = []
    return decimal_style([*quoted, *bare])


def _quoted_cells(line: str) -> list[str]:
    return line.split('"')[1::2]


def rows(report: Report, recognise: Recognise) -> Iterator[list[str]]:
    """Yield the header and then the rows of a table, without what surrounds it. Headers that repeat (several outputs in one file) are left out.

    Raises:
        ReportError: There is no table, or a quoted cell never ends.
    """
    found = header_in(report.head, recognise)
    if found is None:
        raise ReportError(report.name, "unknown_format", "no table with the expected columns")
    index, delimiter, header = found

    def lines() -> Iterator[str]:
        for number, line in enumerate(report.lines()):
            if number >= index and not line.startswith("==") and line.strip():
                yield line + "\n"

    try:
        for row in csv.reader(lines(), delimiter=delimiter):
            cells = [cell.strip() for cell in row]
            if cells == header:
                if header:
                    yield cells
                continue
            yield cells
    except csv.Error as error:
        raise ReportError(report.name, "malformed", f"the table is damaged: {error}") from error


def _cells(line: str, delimiter: str) -> list[str]:
    try:
        return [cell.strip() for cell in next(csv.reader([line.rstrip("\r")], delimiter=delimiter), [])]
    except csv.Error:
        return []
