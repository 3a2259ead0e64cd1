"""The checks that numbers carry units and that formulas are shown as written.

Units are a heuristic over quantities that always have one. It looks at words such as latency, bandwidth or clock (not at counts, ratios or tile sizes)
right after which a number stands, and at columns of tables whose header names such a quantity. A number counts as having a unit if a unit, a percent or
multiplication sign, or any other noun comes after it. What the heuristic gets wrong goes, with its reason, into the folder's exceptions.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from kb_ingest.lint.finding import Finding
from kb_ingest.lint.page import Page, Table

UNIT_OF_ENDING: Mapping[str, tuple[str, ...]] = {
    "_bytes_per_cycle": ("bytes/cycle",),
    "_gb_per_s": ("GB/s",),
    "_tb_per_s": ("TB/s",),
    "_bytes": ("bytes",),
    "_ghz": ("GHz",),
    "_mhz": ("MHz",),
    "_cycles": ("cycles",),
    "_ns": ("ns",),
    "_us": ("us", "µs"),
    "_ms": ("ms",),
    "_fraction": ("1",),
    "_pct": ("%",),
    "_watts": ("W",),
}
"""The units that a limit's name promises, longest ending first."""

QUANTITIES = (
    "latency|latencies|bandwidth|throughput|frequency|clock rate|clock speed|duration|run ?time|wall time|elapsed time|"
    "takes|costs|lasts|clock|clocks|delay|compile time|response time|memory capacity|cache capacity|power draw|power limit|launch overhead|launch cost|peak rate|data rate|transfer rate"
)
_NUMBER = r"\d+(?:,\d{3})*(?:\.\d+)?(?:e[+-]?\d+)?"
_RANGE = rf"(?>(?<![\w.])(?:[~<>≈≤≥]\s?)?{_NUMBER}(?:\s?(?:to|-|–|—|/|or|and|x|×|\.\.\.?|…|±)\s?(?:about\s)?{_NUMBER})*)"
_LINKING = r"(?:\s|[:=≈~(]|\b(?:is|was|are|were|of|about|around|only|just|at|up|to|near|roughly|approximately|reaches|reached|gives?|gave|takes?|took|below|above|under|over)\b)+"
_NEXT_WORD = r"and|or|at|on|for|with|in|is|are|when|if|to|than|but|while|per|by|as|vs\.?|versus|before|after|under|from"
_BARE = rf"(?=\s*(?:$|[.,;:)|\]](?!\d)|(?:{_NEXT_WORD})\b))"
_CLAUSE = re.compile(rf"\b({QUANTITIES})\b({_LINKING})({_RANGE}){_BARE}", re.IGNORECASE)
_UNIT_IN_HEADER = re.compile(
    r"%|(?<![a-z])(?:[kmgtp]?i?b(?:ytes?)?|bytes?|bits?|cycles?|clk|[nuµm]?s|sec(?:onds?)?|minutes?|hours?|[kmgt]?hz|[kmgtp]?flops?|[tg]?ops?|w|watts?|"
    r"x|×|ratio|factor|speedup|fraction|steps?|elements?|instructions?)(?![a-z])|/|\bper\b",
    re.IGNORECASE,
)
_BARE_CELL = re.compile(rf"\s*{_RANGE}\s*$")


def check_units(pages: Mapping[str, Page], root: Path) -> Iterator[Finding]:
    """Numbers of physical quantities carry units, in sentences and in tables."""
    for page in pages.values():
        for passage in page.passages:
            for match in _CLAUSE.finditer(passage.text):
                yield Finding("unit", page.name, passage.line, f"a unit is missing: {match.group(0).strip()!r}", passage.text)
        for table in page.tables:
            yield from _table_findings(page, table)


def check_markup(pages: Mapping[str, Page], root: Path) -> Iterator[Finding]:
    """No product loses its asterisks to emphasis: `2*m*n` in prose is shown, and found, as 2mn."""
    for page in pages.values():
        for passage in page.mangled:
            message = f"{passage.text!r} is read as emphasis; write × or ·, or put it into code"
            yield Finding("markup", page.name, passage.line, message, passage.text)


def _table_findings(page: Page, table: Table) -> Iterator[Finding]:
    for column, header in enumerate(table.header.cells):
        quantity = re.search(rf"\b({QUANTITIES})\b", header, re.IGNORECASE)
        if not quantity or _UNIT_IN_HEADER.search(header.replace(quantity.group(0), " ")):
            continue
        for row in table.rows:
            cell = row.cells[column] if column < len(row.cells) else ""
            if _BARE_CELL.match(cell) and not any(_UNIT_IN_HEADER.search(label) for label in row.cells[:1]):
                message = f"a unit is missing: {cell.strip()!r} in the column {header!r}; put the unit into the header"
                yield Finding("unit", page.name, row.line, message, " | ".join(row.cells))
