"""Numbers as the reports' tables show them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tools.types import Interval


def interval_cell(interval: Interval | None) -> str:
    """Return a value with its interval; empty for None."""
    return "" if interval is None else f"{interval.value:.2f} [{interval.low:.2f}, {interval.high:.2f}]"


def number_cell(value: float | None, digits: int = 2) -> str:
    """Return a number with so many digits behind the point; empty for None."""
    return "" if value is None else f"{value:.{digits}f}"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join([*lines, *("| " + " | ".join(cell.replace("|", "/").replace("\n", " ") for cell in row) + " |" for row in rows)])
