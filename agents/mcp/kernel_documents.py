"""Kernel documents of the knowledge base as resources: the list for a target, and one as Markdown. Every function blocks: call it in a thread."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agents.mcp.errors import CallError
from kb.types import Kind, Section

if TYPE_CHECKING:
    from kb.store import KnowledgeBase


def list_kernels(base: KnowledgeBase, target: str) -> list[dict[str, Any]]:  # Any: JSON
    """Return what the kernel documents that a target sees are for, without code."""
    return [
        {
            "kernel": str(item.front_matter.get("kernel", item.source)),
            "title": item.title,
            "document_id": item.document_id,
            "language": item.front_matter.get("language"),
            "matches": item.front_matter.get("matches"),
        }
        for item in base.kernel_documents(target)
    ]


def find_kernel(base: KnowledgeBase, name: str) -> str:
    """Return a kernel document as Markdown.

    Raises:
        CallError: No kernel has this name.
    """
    known = []
    for stored in base.documents():
        if stored.kind is not Kind.KERNEL:
            continue
        called = str(stored.front_matter.get("kernel", stored.source))
        if name in (called, stored.source):
            return markdown_of(base.get_document(stored.document_id).root)
        known.append(called)
    raise CallError(f"no kernel {name!r}; known: {', '.join(sorted(known)) or 'none: the knowledge base is empty'}")


def markdown_of(section: Section) -> str:
    """Return a section with those below it as Markdown."""
    heading = f"{'#' * max(1, section.level)} {section.title}\n" if section.title else ""
    return "\n".join([f"{heading}{section.text}".rstrip(), *(markdown_of(child) for child in section.children)])
