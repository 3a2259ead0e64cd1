"""Which documents are no longer current: retired by a person or by their own front matter, or superseded by another document.

Front matter says `status: retired`, `superseded_by: SOURCE`, or, in the newer document, `supersedes: [SOURCE, …]`. Retired and superseded documents stay in the
base with their history, but no leg finds them unless asked to. Supersession holds only while the newer document is there.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, delete, insert, text

from kb.catalogue import Catalogue, StoredDocument
from kb.errors import UnknownNameError
from kb.schema import document_status
from kb.types import Document

NOT_CURRENT = (
    "SELECT ds.document_id FROM document_status ds WHERE ds.status = 'retired' "
    "OR EXISTS (SELECT 1 FROM documents newer WHERE newer.source = ds.successor)"
)
"""SQL for the ids of documents that are hidden by default."""


def retire(connection: Connection, source: str, successor: str, reason: str) -> StoredDocument:
    """Retire a document, or say what supersedes it, by command; it stays so when its file is ingested again.

    Raises:
        UnknownNameError: There is no such document or successor.
    """
    stored = _find(connection, source)
    if successor:
        newer = _find(connection, successor)
        if newer.document_id == stored.document_id:
            raise ValueError(f"{source!r} cannot supersede itself")
        successor = newer.source
    _set(connection, stored.document_id, "superseded" if successor else "retired", "command", successor, reason)
    Catalogue.touch(connection)
    return stored


def reinstate(connection: Connection, source: str) -> bool:
    """Make a document current again; return whether it was not.

    Raises:
        UnknownNameError: There is no such document.
    """
    stored = _find(connection, source)
    found = connection.execute(delete(document_status).where(document_status.c.document_id == stored.document_id)).rowcount
    Catalogue.touch(connection)
    return bool(found)


def take_from_front_matter(connection: Connection, document: Document, document_id: str, superseded: Mapping[str, str]) -> None:
    """Set the status that a document states of itself and of others, in the transaction that writes it.

    Args:
        superseded: From source to the source of what supersedes it, as stated by documents of the base.
    """
    connection.execute(delete(document_status).where(document_status.c.document_id == document_id, document_status.c.origin == "document"))
    origin = f"by:{document_id}"
    connection.execute(delete(document_status).where(document_status.c.origin == origin))
    successor = str(document.front_matter.get("superseded_by") or superseded.get(document.source) or "")
    if successor or str(document.front_matter.get("status", "")).lower() == "retired":
        _set(connection, document_id, "superseded" if successor else "retired", "document", successor, "", keep=True)
    for source in _names(document.front_matter.get("supersedes")):
        older = Catalogue.find_document(connection, source=source)
        if older is not None and older.document_id != document_id:
            _set(connection, older.document_id, "superseded", origin, document.source, "", keep=True)


def supersessions(connection: Connection) -> dict[str, str]:
    """Return from source to successor what the documents of the base say they supersede."""
    rows = connection.execute(text("SELECT source, front_matter FROM documents WHERE front_matter LIKE '%\"supersedes\"%'"))
    found: dict[str, str] = {}
    for row in rows:
        values = json.loads(row.front_matter) if isinstance(row.front_matter, str) else row.front_matter
        found |= dict.fromkeys(_names(values.get("supersedes")), str(row.source))
    return found


def statuses(connection: Connection) -> dict[str, dict[str, Any]]:  # Any: columns of several types
    """Return the status of every document that is not current, by source."""
    rows = connection.execute(
        text(
            "SELECT d.source, ds.status, ds.successor, ds.reason, ds.origin, ds.since FROM document_status ds JOIN documents d ON d.document_id = ds.document_id "
            f"WHERE ds.document_id IN ({NOT_CURRENT}) ORDER BY d.source"
        )
    ).mappings()
    return {str(row["source"]): {key: row[key] for key in ("status", "successor", "reason", "origin", "since")} for row in rows}


def _set(connection: Connection, document_id: str, status: str, origin: str, successor: str, reason: str, keep: bool = False) -> None:
    """Write a status; with `keep`, what a person set stands."""
    if keep:
        by_command = text("SELECT 1 FROM document_status WHERE document_id = :id AND origin = 'command'")
        if connection.execute(by_command, {"id": document_id}).first() is not None:
            return
    connection.execute(delete(document_status).where(document_status.c.document_id == document_id))
    values = {"status": status, "origin": origin, "successor": successor, "reason": reason, "since": time.time()}
    connection.execute(insert(document_status).values(document_id=document_id, **values))


def _find(connection: Connection, source: str) -> StoredDocument:
    stored = Catalogue.find_document(connection, source=source) or Catalogue.find_document(connection, document_id=source)
    if stored is None:
        raise UnknownNameError(f"no document {source!r}; `kb tree` lists the sources")
    return stored


def _names(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    return [str(item) for item in value] if isinstance(value, list | tuple) else []
