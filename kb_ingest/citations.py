"""Whether citations are true: the text at a chunk's span, read again from its file, is the chunk.

Of embedded images the payload is left out on both sides; a part of one line must stand in that line.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

from kb.chunking import drop_data_images, flatten
from kb.errors import DocumentError
from kb.store import KnowledgeBase
from kb.types import Chunk
from kb_ingest.readers.base import RawFile
from kb_ingest.readers.registry import reader_for
from kb_ingest.readers.text import decode_or_none


@dataclass(frozen=True)
class FalseCitation:
    """A chunk that its span does not hold."""

    chunk_id: str
    source: str
    line_start: int
    line_end: int
    reason: str


@dataclass(frozen=True)
class CitationReport:
    """What a check of citations found."""

    num_checked: int
    num_verbatim: int
    """Chunks whose text is that of the raw file's lines, not only of the converted text (PDF, HTML, notebooks)."""
    false: tuple[FalseCitation, ...]


def check_citations(base: KnowledgeBase, number: int, rng: random.Random) -> CitationReport:
    """Read the files of randomly drawn chunks again and compare.

    Args:
        base: Documents that did not come from files are left out.
        number: Chunks to draw; fewer if there are fewer.
        rng: Decides which.
    """
    drawn = [(stored, chunk) for stored in base.documents() if stored.path for chunk in base.chunks_of(stored.document_id)]
    drawn = rng.sample(drawn, min(number, len(drawn)))
    lines: dict[str, tuple[list[str], list[str] | None] | str] = {}
    false: list[FalseCitation] = []
    verbatim = 0
    for stored, chunk in drawn:
        if stored.document_id not in lines:
            lines[stored.document_id] = _read_again(stored.path, stored.source)
        found = lines[stored.document_id]
        if isinstance(found, str):
            false.append(FalseCitation(chunk.chunk_id, stored.source, chunk.line_start, chunk.line_end, found))
            continue
        converted, raw = found
        if not _stands_in(chunk, converted):
            false.append(
                FalseCitation(chunk.chunk_id, stored.source, chunk.line_start, chunk.line_end, "the lines of the span say something else")
            )
        elif raw is not None and _stands_in(chunk, raw):
            verbatim += 1
    return CitationReport(len(drawn), verbatim, tuple(false))


def _read_again(path: str, source: str) -> tuple[list[str], list[str] | None] | str:
    """Return the lines of a document as its reader gives them and as the file has them, or why it cannot be read."""
    try:
        file = RawFile(source, Path(path).read_bytes())
        document = reader_for(file).read(file)
    except (OSError, DocumentError) as err:
        return f"the file cannot be read any more: {err}"
    placed: dict[int, str] = {}
    for section, _, _ in flatten(document.root, document.title):
        if section.text:
            first = section.text_line or section.line_start + (1 if section.level > 0 else 0)
            placed |= dict(enumerate(section.text.split("\n"), start=first))
    converted = [placed.get(number, "") for number in range(1, max(placed, default=0) + 1)]
    text = decode_or_none(file)
    return converted, text.split("\n") if text is not None else None


def _stands_in(chunk: Chunk, lines: list[str]) -> bool:
    span = drop_data_images("\n".join(lines[chunk.line_start - 1 : chunk.line_end]))
    return chunk.text == span or (chunk.line_start == chunk.line_end and bool(chunk.text) and chunk.text in span)
