"""Labels: names that documents give to their sections, and that references (`:ref:`, `{ref}`) of any document resolve to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import select

from kb.links import ANCHOR
from kb.schema import documents, links

if TYPE_CHECKING:
    from kb.store import KnowledgeBase


@dataclass(frozen=True)
class LabelledSection:
    """The section that a label names."""

    source: str
    section_id: str


def label_key(reference: str) -> str:
    """Return a reference as labels are compared: white space and case do not count."""
    return " ".join(reference.split()).lower()


def labels_of(base: KnowledgeBase) -> dict[str, LabelledSection]:
    """Return every label of a base with its section; one that two documents define is nobody's."""
    statement = (
        select(links.c.address, documents.c.source, links.c.section_id)
        .join(documents, documents.c.document_id == links.c.document_id)
        .where(links.c.label == ANCHOR)
    )
    found: dict[str, LabelledSection] = {}
    twice: set[str] = set()
    with base.catalogue.read() as connection:
        for address, source, section_id in connection.execute(statement):
            if found.setdefault(str(address), LabelledSection(str(source), str(section_id))).section_id != section_id:
                twice.add(str(address))
    return {label: place for label, place in found.items() if label not in twice}
