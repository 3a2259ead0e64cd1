"""One document, section or chunk by its id, as JSON-ready mappings: what `kb show`, the HTTP API and the tools for models answer with."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from kb.catalogue import chunk_of
from kb.errors import UnknownNameError
from kb.schema import chunks, documents, sections

if TYPE_CHECKING:
    from kb.store import KnowledgeBase

Record = dict[str, Any]  # Any: JSON


def find_chunk(base: KnowledgeBase, chunk_id: str) -> Record:
    """Return a chunk with the title and source of its document.

    Raises:
        UnknownNameError: There is none with this id.
    """
    with base.catalogue.read() as connection:
        row = connection.execute(select(chunks).where(chunks.c.chunk_id == chunk_id)).mappings().first()
        if row is None:
            raise UnknownNameError(f"no chunk {chunk_id!r}; a search gives the ids")
        owner = base.catalogue.find_document(connection, document_id=row["document_id"])
    found = {"level": "chunk", **dataclasses.asdict(chunk_of(row)), "section_id": row["section_id"]}
    if owner is not None:
        found |= {"document": owner.title, "source": owner.source, "trust": owner.trust.value, "targets": list(owner.targets)}
    return found


def find_section(base: KnowledgeBase, section_id: str) -> Record:
    """Return a section: its own text, the sections directly below it and the ids of its own chunks.

    Raises:
        UnknownNameError: There is none with this id.
    """
    with base.catalogue.read() as connection:
        row = connection.execute(select(sections).where(sections.c.section_id == section_id)).mappings().first()
        if row is None:
            raise UnknownNameError(f"no section {section_id!r}; the tree of a document gives the ids")
        below = connection.execute(
            select(sections.c.section_id, sections.c.title).where(sections.c.parent_id == section_id).order_by(sections.c.position)
        ).all()
        own = connection.execute(select(chunks.c.chunk_id).where(chunks.c.section_id == section_id).order_by(chunks.c.position)).scalars()
        chunk_ids = [str(item) for item in own]
        owner = connection.execute(select(documents).where(documents.c.document_id == row["document_id"])).mappings().one()
    return {
        "level": "section",
        "section_id": section_id,
        "document_id": row["document_id"],
        "document": owner["title"],
        "source": owner["source"],
        "trust": owner["trust"],
        "targets": list(owner["targets"]),
        "section_path": list(row["path"]),
        "line_start": row["line_start"],
        "line_end": row["line_end"],
        "text": row["text"],
        "summary": row["summary"],
        "children": [{"section_id": str(item), "title": str(title)} for item, title in below],
        "chunk_ids": chunk_ids,
    }


def find_document(base: KnowledgeBase, identifier: str) -> Record:
    """Return what the catalogue says of a document (by id or source) with its sections and chunks.

    Raises:
        UnknownNameError: There is none.
    """
    with base.catalogue.read() as connection:
        stored = base.catalogue.find_document(connection, document_id=identifier) or base.catalogue.find_document(
            connection, source=identifier
        )
        if stored is None:
            raise UnknownNameError(f"no document {identifier!r}; `kb tree` lists the ids")
        rows = connection.execute(select(sections).where(sections.c.document_id == stored.document_id).order_by(sections.c.position))
        outline = [
            {"section_id": row["section_id"], "section_path": list(row["path"]), "line_start": row["line_start"]} for row in rows.mappings()
        ]
    return {
        "level": "document",
        **dataclasses.asdict(stored),
        "sections": outline,
        "chunks": [dataclasses.asdict(chunk) for chunk in base.chunks_of(stored.document_id)],
    }


def find_any(base: KnowledgeBase, identifier: str) -> Record:
    """Return the chunk, section or document with this id (or the document with this source).

    Raises:
        UnknownNameError: Nothing has it.
    """
    for find in (find_chunk, find_section, find_document):
        try:
            return find(base, identifier)
        except UnknownNameError:
            continue
    raise UnknownNameError(f"no chunk, section or document {identifier!r}; a search or the tree gives the ids")
