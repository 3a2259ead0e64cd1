"""Draw numeric facts from the documents at random, for a reader who did not write them to check against their sources.

A fact is a number with a unit in a sentence, a table row or a limit of the front matter; kernels (their code is tested) and the guide (it describes the
tools) are left out. The draw depends on the seed and on the documents alone.

    python -m evaluation.fact_check --seed 20261122 --count 40 docs/ > facts.jsonl

`--unmarked` lists instead every estimate (about, typically, a bound or a share) of a document marked documented whose whole section names no source and no trust.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from kb_ingest.lint.page import Page, read_page
from kb_ingest.walk import walk

LEFT_OUT = ("kernels/", "guide/", "architecture.md")
_UNIT = (
    r"%|[kMGTP]?i?B(?:/s|/clk|/cycle)?|bytes?(?: per \w+|/\w+)?|bits?|cycles?|[nuµm]s|s|[kMG]Hz|[TGPMk]?(?:FL)?OPS?(?:/s)?|[TGPMk]?FLOP(?:/s|/B)?|W|"
    r"threads?|warps?|lanes?|registers?|banks?|SMs|CUs|XCDs|PEs|columns?|blocks?|instructions?|ulp|elements?"
)
_NUMBER = re.compile(rf"(?<![\w.])\d[\d,]*(?:\.\d+)?\s?(?:{_UNIT})(?![\w/])")
_ESTIMATE = re.compile(
    r"\b(about|typical|typically|usually|often|roughly|around|at least|at most|up to|some|faster|slower|costs?|takes?|gains?|loses?)\b|[<>]=? ?\d|%",
    re.I,
)
_MARK = re.compile(
    r"documented|derived|measured|unverified|rules? of thumb|secondary|assum|inferred|from memory|https?://|arXiv|ISCA|guide|manual|docs\b|tested"
    r"|compiled with|datasheet|paper|PTX ISA|example|=|same\b",
    re.I,
)
"""What says where a number comes from; an equation or an example is its own source."""
_SENTENCE_END = re.compile(r"(?<=[.;])\s+(?=[A-Z`(\d])")


@dataclass(frozen=True)
class Fact:
    """One number of one document."""

    document: str
    line: int
    number: str
    """As written, with its unit."""
    text: str
    """The sentence, the table row under its header, or the limit."""
    sources: tuple[str, ...]
    """What the document names."""


def facts(folder: Path) -> Iterator[Fact]:
    """Yield every numeric fact of the documents in a fixed order."""
    for file in walk(folder):
        name = file.path.relative_to(file.root or folder).as_posix()
        if file.path.suffix == ".md" and not name.startswith(LEFT_OUT):
            yield from page_facts(read_page(file.path, name))


def page_facts(page: Page) -> Iterator[Fact]:
    """Yield the facts of one document."""
    sources = tuple(str(item) for item in page.front_matter.get("sources", ()))
    for name, limit in (page.front_matter.get("limits") or {}).items():
        if isinstance(limit, Mapping) and isinstance(limit.get("value"), int | float):
            number = f"{limit['value']} {limit.get('unit', '')}".strip()
            yield Fact(page.name, page.line_of(name), number, f"{name} = {number} ({limit.get('trust')})", (str(limit.get("source")),))
    for passage in page.passages:
        for sentence in _SENTENCE_END.split(passage.text):
            for match in _NUMBER.finditer(sentence):
                yield Fact(page.name, passage.line, match.group(0), sentence.strip(), sources)
    for table in page.tables:
        for row in table.rows:
            text = "; ".join(f"{head}: {cell}" for head, cell in zip(table.header.cells, row.cells, strict=False))
            for match in _NUMBER.finditer(" | ".join(row.cells)):
                yield Fact(page.name, row.line, match.group(0), text, sources)


def unmarked(folder: Path) -> Iterator[Fact]:
    """Yield estimates that stand in documents marked documented, in sections that say nothing of where their numbers come from; one a line."""
    for file in walk(folder):
        name = file.path.relative_to(file.root or folder).as_posix()
        if file.path.suffix == ".md" and not name.startswith(LEFT_OUT):
            page = read_page(file.path, name)
            if page.front_matter.get("trust") == "documented":
                lines = file.path.read_text(encoding="utf-8").split("\n")
                found = {fact.line: fact for fact in page_facts(page) if _ESTIMATE.search(fact.text)}
                yield from (fact for line, fact in found.items() if not _MARK.search(_section(lines, line)))


def _section(lines: Sequence[str], line: int) -> str:
    """Return the section of the second level that a line (from 1) stands in."""
    starts = [number for number, text in enumerate(lines) if text.startswith("## ")]
    begin = max((number for number in starts if number < line), default=0)
    return "\n".join(lines[begin : min((number for number in starts if number >= line), default=len(lines))])


def draw(folder: Path, count: int, seed: int) -> tuple[Fact, ...]:
    """Return `count` facts, each equally likely, in the order of the draw."""
    return tuple(random.Random(seed).sample(list(facts(folder)), count))


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the drawn facts as JSON lines."""
    parser = argparse.ArgumentParser(prog="python -m evaluation.fact_check", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--unmarked", action="store_true", help="list estimates without a source instead of drawing")
    options = parser.parse_args(arguments)
    found = unmarked(options.folder) if options.unmarked else draw(options.folder, options.count, options.seed)
    sys.stdout.writelines(json.dumps(asdict(fact), ensure_ascii=False) + "\n" for fact in found)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
