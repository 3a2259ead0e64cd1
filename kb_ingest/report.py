"""What became of each document: sections, chunks, tables, code blocks, and what its reader left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from kb.markup_blocks import blocks_of
from kb.types import Document, Section


@dataclass(frozen=True)
class DocumentReport:
    """One document that was read."""

    source: str
    reader: str
    """Name of the format's reader."""
    num_bytes: int
    num_sections: int
    """Headings; the root is not counted."""
    num_tables: int
    num_code_blocks: int
    num_links: int
    num_pages: int | None
    """Pages, if the format has them."""
    lost: Mapping[str, int] = field(default_factory=dict)
    """What was left out, counted by kind."""
    num_chunks: int = 0
    status: str = ""
    """`added`, `updated` or `unchanged`."""
    origin: Mapping[str, str] = field(default_factory=dict)
    """Repository, commit and path, if it came unchanged from a checkout."""

    def to_json(self) -> dict[str, Any]:  # Any: JSON
        """Return a JSON-ready mapping."""
        return {
            "source": self.source,
            "status": self.status,
            "reader": self.reader,
            "bytes": self.num_bytes,
            "sections": self.num_sections,
            "chunks": self.num_chunks,
            "tables": self.num_tables,
            "code_blocks": self.num_code_blocks,
            "links": self.num_links,
            "pages": self.num_pages,
            "lost": dict(self.lost),
            "origin": dict(self.origin),
        }


def describe(document: Document, reader: str, num_bytes: int) -> DocumentReport:
    """Return what can be said of a document before it is chunked."""
    from kb.links import ANCHOR, links_in

    kinds: Counter[str] = Counter()
    sections = links = 0
    for section in every_section(document.root):
        sections += 1
        links += sum(label != ANCHOR for label, _ in links_in(section))
        kinds.update(block.kind for block in blocks_of(section.text.split("\n"), section.syntax)) if section.text.strip() else None
    pages = document.front_matter.get("page_lines")
    return DocumentReport(
        source=document.source,
        reader=reader,
        num_bytes=num_bytes,
        num_sections=sections - 1,
        num_tables=kinds["table"],
        num_code_blocks=kinds["code"],
        num_links=links,
        num_pages=len(pages) if isinstance(pages, list) else None,
        lost=document.lost,
        origin=document.front_matter.get("checkout") or {},
    )


def every_section(root: Section) -> Iterator[Section]:
    """Yield a section and all below it, in order."""
    yield root
    for child in root.children:
        yield from every_section(child)


def totals(reports: list[DocumentReport]) -> dict[str, Any]:  # Any: JSON
    """Return sums over documents: all together, and by reader."""
    by_reader: dict[str, Counter[str]] = {}
    lost: Counter[str] = Counter()
    for report in reports:
        counts = by_reader.setdefault(report.reader, Counter())
        counts.update(
            documents=1,
            bytes=report.num_bytes,
            sections=report.num_sections,
            chunks=report.num_chunks,
            tables=report.num_tables,
            code_blocks=report.num_code_blocks,
            links=report.num_links,
            pages=report.num_pages or 0,
        )
        lost.update(report.lost)
    together: Counter[str] = Counter()
    for counts in by_reader.values():
        together.update(counts)
    return {
        "all": dict(together),
        "by_reader": {name: dict(counts) for name, counts in sorted(by_reader.items())},
        "lost": dict(lost.most_common()),
    }
