"""The check that documents do not contradict each other.

A limit is a machine-readable fact of one target (front matter `limits`). Two documents that give it different values contradict each other. So does a
sentence or a table row, in a document for the same target, that names the limit in words and gives a number of the same dimension that is not its value
(within 2 %; KB may mean 1,000 or 1,024 bytes). And so do two documents for the same targets whose statements have the same words before a number with
a unit, and no number in common. Differences that are meant carry `note:` in the limit, or an entry in the folder's exceptions.

What it does not see: contradictions in other words, between targets of one family, and of numbers without units.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kb.types import Kind
from kb.words import STOP_WORDS, stem, tokens
from kb_ingest.lint.finding import Finding
from kb_ingest.lint.page import Page
from kb_ingest.lint.units import UNIT_OF_ENDING

TOLERANCE_FRACTION = 0.02

_SCALES: Mapping[str, Mapping[str, tuple[float, ...]]] = {
    "bytes": {
        "b": (1,), "byte": (1,), "bytes": (1,), "kb": (1e3, 1024), "kib": (1024,), "mb": (1e6, 2**20), "mib": (2**20,), "gb": (1e9, 2**30),
        "gib": (2**30,), "tb": (1e12, 2**40), "tib": (2**40,),
    },
    "bytes/s": {"gb/s": (1e9, 2**30), "gib/s": (2**30,), "tb/s": (1e12, 2**40), "tib/s": (2**40,), "mb/s": (1e6,)},
    "bytes/cycle": {"b/clk": (1,), "b/cycle": (1,), "bytes/cycle": (1,), "b/clock": (1,), "bytes/clock": (1,)},
    "s": {"ns": (1e-9,), "us": (1e-6,), "µs": (1e-6,), "ms": (1e-3,), "s": (1,)},
    "hz": {"hz": (1,), "mhz": (1e6,), "ghz": (1e9,)},
    "cycles": {"cycle": (1,), "cycles": (1,), "clk": (1,)},
    "flop/s": {"gflop/s": (1e9,), "tflop/s": (1e12,), "tflops": (1e12,), "pflop/s": (1e15,), "tops": (1e12,), "flop/s": (1,), "op/s": (1,), "tflop": (1e12,)},
    "w": {"w": (1,), "kw": (1e3,), "watts": (1,)},
}  # fmt: skip
"""Dimension to unit (lower case) to factors to its base unit; two factors where usage is divided."""
_NUMBER = r"(\d[\d,]*(?:\.\d+)?)"
_UNIT = "|".join(sorted((re.escape(unit) for units in _SCALES.values() for unit in units), key=len, reverse=True))
_RATE = r"(?!\w|\s*/|\s+(?:per|a|each)\b)"
"""After a unit: it is not the first half of another one, `741 bytes per cycle`."""
_LINKING = r"(?:is|are|has|of|about|=|:|\||\(|,|\s)*"
_STATEMENT = re.compile(rf"((?:[A-Za-z][\w-]*[\s:|(]+){{1,6}}?){_LINKING}\s*(?<![\w.]){_NUMBER}\s*({_UNIT}){_RATE}", re.IGNORECASE)
_KEY_WORDS = 3


@dataclass(frozen=True)
class Limit:
    """One machine-readable fact."""

    target: str
    name: str
    value: float
    unit: str
    page: Page

    @property
    def words(self) -> str:
        """Its name in words, without the unit: `shared memory per block`."""
        ending = next((ending for ending in UNIT_OF_ENDING if self.name.endswith(ending)), "")
        return self.name.removesuffix(ending).replace("_", " ")


def limits(pages: Mapping[str, Page]) -> Iterator[Limit]:
    """Yield every numeric limit of documents that are about one exact target."""
    for page in pages.values():
        stated: Any = page.front_matter.get("limits", {})  # Any: YAML
        targets = page.front_matter.get("targets", [])
        for name, limit in stated.items() if isinstance(stated, Mapping) else ():
            value = limit.get("value") if isinstance(limit, Mapping) and not limit.get("note") else None
            if isinstance(value, int | float) and not isinstance(value, bool) and isinstance(targets, list):
                for target in targets:
                    yield Limit(str(target), str(name), float(value), str(limit.get("unit", "")), page)


def check_facts(pages: Mapping[str, Page], root: Path) -> Iterator[Finding]:
    """No limit has two values, and no document restates one with another number."""
    known: dict[tuple[str, str], Limit] = {}
    by_target: dict[str, list[Limit]] = defaultdict(list)
    for limit in limits(pages):
        first = known.setdefault((limit.target, limit.name), limit)
        if first.page is not limit.page and first.value != limit.value:
            message = (
                f"{limit.name} of {limit.target} is {limit.value:g} {limit.unit} here and {first.value:g} {first.unit} in {first.page.name}"
            )
            yield Finding("fact", limit.page.name, limit.page.line_of(limit.name), message + "; mend one or add `note:`")
        by_target[limit.target].append(limit)
    for page in pages.values():
        targets = page.front_matter.get("targets", [])
        if isinstance(targets, list) and len(targets) == 1:
            for limit in by_target.get(str(targets[0]), ()):
                yield from _restated(page, limit)
    yield from _disagreements(pages)


def _restated(page: Page, limit: Limit) -> Iterator[Finding]:
    dimension = _dimension(limit.unit)
    if dimension is None or " " not in limit.words:
        return
    units, base = _SCALES[dimension], limit.value * _SCALES[dimension][limit.unit.lower()][0]
    name = r"[\s-]+".join(re.escape(word) + "s?" for word in limit.words.split())
    unit = "|".join(sorted(map(re.escape, units), key=len, reverse=True))
    value = re.compile(rf"\b{name}\b\s*{_LINKING}\s*{_NUMBER}\s*({unit}){_RATE}", re.IGNORECASE)
    for text, line in _texts(page):
        for match in value.finditer(text):
            number = float(match.group(1).replace(",", ""))
            if not any(abs(number * scale - base) <= TOLERANCE_FRACTION * base for scale in units[match.group(2).lower()]):
                message = f"{match.group(0)!r} contradicts {limit.name} = {limit.value:g} {limit.unit} in {limit.page.name}"
                yield Finding("fact", page.name, line, message, text)


@dataclass(frozen=True)
class _Statement:
    values: frozenset[float]
    """The number in the base unit, one a meaning of the unit."""
    text: str
    page: Page
    line: int


def _disagreements(pages: Mapping[str, Page]) -> Iterator[Finding]:
    """Yield statements that other documents for the same targets make with other numbers only."""
    found: dict[tuple[str, ...], dict[str, list[_Statement]]] = defaultdict(lambda: defaultdict(list))
    for page in pages.values():
        targets = page.front_matter.get("targets", [])
        if page.front_matter.get("kind") != Kind.KERNEL and isinstance(targets, list):
            for key, statement in _statements(page):
                found[*sorted(map(str, targets)), *key][page.name].append(statement)
    for by_page in found.values():
        first, *others = by_page.values()
        for statements in others:
            if not any(_agree(mine, theirs) for mine in statements for theirs in first):
                mine, theirs = statements[0], first[0]
                message = f"{mine.text!r} contradicts {theirs.text!r} in {theirs.page.name}:{theirs.line}"
                yield Finding("fact", mine.page.name, mine.line, message, mine.text)


def _statements(page: Page) -> Iterator[tuple[tuple[str, ...], _Statement]]:
    for text, line in _texts(page):
        for match in _STATEMENT.finditer(text):
            words = [stem(word) for word in tokens(match.group(1)) if word not in STOP_WORDS][-_KEY_WORDS:]
            dimension = _dimension(match.group(3))
            if len(words) > 1 and dimension:
                number = float(match.group(2).replace(",", ""))
                values = frozenset(number * scale for scale in _SCALES[dimension][match.group(3).lower()])
                yield (*words, dimension), _Statement(values, match.group(0).strip(), page, line)


def _agree(one: _Statement, other: _Statement) -> bool:
    return any(abs(a - b) <= TOLERANCE_FRACTION * max(a, b) for a in one.values for b in other.values)


def _dimension(unit: str) -> str | None:
    return next((dimension for dimension, units in _SCALES.items() if unit.lower() in units), None)


def _texts(page: Page) -> Iterator[tuple[str, int]]:
    for passage in page.passages:
        yield passage.text, passage.line
    for table in page.tables:
        for row in table.rows:
            yield " | ".join(row.cells[:2]), row.line
