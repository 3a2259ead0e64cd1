"""Open what a search found: a writer needs the section that a passage stands in, and of a kernel the whole document, not a torn piece of code."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kb.brief import Brief, Finding
    from kb.store import KnowledgeBase
    from kb.types import Chunk

MAX_KERNELS = 2
"""Kernel documents that are opened whole: those that most findings point to."""
MAX_SECTION_BYTES = 6_000
"""A section that is longer stays at the passage that was found."""
_LINK = re.compile(r"\]\([\w./-]+\.md[^)]*\)")
_RULE = re.compile(r"[|:\s-]+")
_OWN = re.compile(r"(?:^|/)docs/(?:guide/(?!lint-rules\.md)|architecture\.md)")
_FOR_ACCELERATORS = re.compile(r"^```(?:python triton|cuda|hip|ptx)\b.*?(?:^```[ \t]*$|\Z)", re.DOTALL | re.MULTILINE)


def opened(base: KnowledgeBase, brief: Brief, target: str = "") -> Brief:
    """Return a brief whose findings hold whole sections, each once, and whole kernel documents for the best of them.

    Pieces of code of other kernel documents are left out, and so are tables of contents (a writer cannot follow their links), examples in a language that the target
    does not take, and this product's own guide: it says how candidates are judged, not how to write them. The id of a finding stays that of the first passage found there.
    """
    from kb.types import Kind

    chunks = {finding.hit.chunk_id: base.get_chunk(finding.hit.chunk_id) for finding in brief.findings}
    documents = {chunk.document_id: base.chunks_of(chunk.document_id) for chunk in chunks.values()}
    votes = Counter(chunks[finding.hit.chunk_id].document_id for finding in brief.findings if finding.hit.kind is Kind.KERNEL)
    whole = {document_id for document_id, _ in votes.most_common(MAX_KERNELS)}
    found: dict[tuple[str, tuple[str, ...], str], Finding] = {}
    for finding in brief.findings:
        if is_own_guide(finding.hit.source.path):
            continue
        chunk = chunks[finding.hit.chunk_id]
        is_kernel = finding.hit.kind is Kind.KERNEL
        path, text = finding.hit.section_path, finding.hit.text
        if is_kernel and chunk.document_id in whole:
            path, text = path[:1], joined_text(documents[chunk.document_id], with_headings=True)
        elif is_kernel and chunk.block == "code":
            continue
        elif not is_kernel:
            section = joined_text([item for item in documents[chunk.document_id] if item.section_path == chunk.section_path])
            if is_index(section):
                continue
            if len(section.encode()) <= MAX_SECTION_BYTES:
                text = section
            text = without_foreign_code(text, target)
            if not text.strip():
                continue
        hit = dataclasses.replace(finding.hit, section_path=path, text=text)
        found.setdefault((chunk.document_id, path, text), dataclasses.replace(finding, hit=hit))
    return dataclasses.replace(brief, findings=tuple(found.values()))


def is_own_guide(path: str) -> bool:
    """Return whether a file describes this product, not kernels or chips: a page of its user guide, or its architecture.

    The lint rules are an exception: a writer must keep them.
    """
    return bool(_OWN.search(path))


def without_foreign_code(text: str, target: str) -> str:
    """Return a text without blocks of code that the target cannot use: Triton and CUDA for a CPU."""
    return _FOR_ACCELERATORS.sub("", text).strip("\n") if target.partition(":")[0] == "cpu" else text


def is_index(section: str) -> bool:
    """True if most lines of a section are links: it says where to read, not what."""
    lines = [line for line in section.splitlines() if line.strip() and not _RULE.fullmatch(line.strip())]
    return len(lines) > 2 and sum(bool(_LINK.search(line)) for line in lines) > len(lines) / 2


def joined_text(chunks: Sequence[Chunk], *, with_headings: bool = False) -> str:
    """Return the text of neighbouring chunks in their order; parts of one code block or table are joined without a gap."""
    lines: list[str] = []
    before: Chunk | None = None
    for chunk in chunks:
        if before is None or before.section_path != chunk.section_path:
            lines += [*([""] if before else []), *([f"### {chunk.section_path[-1]}"] if with_headings else [])]
        elif not (chunk.block == before.block and chunk.block in ("code", "table") and chunk.line_start <= before.line_end + 1):
            lines.append("")
        lines.append(chunk.text)
        before = chunk
    return "\n".join(lines)
