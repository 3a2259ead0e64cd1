"""Where two documents give different numbers for one thing: both are shown, with their trust; nobody decides for the reader.

Two statements conflict if they have the same subject and unit, hold for the same target, cannot both be true, and stand in different documents. A document that
gives several numbers for one subject does not say enough to be contradicted there, so its statements on it are left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, Row, bindparam, delete, insert, select, text

from kb.catalogue import Catalogue, chunk_of
from kb.schema import chunks, statements
from kb.statements import VERSION, Statement, statements_in
from kb.status import NOT_CURRENT
from kb.types import Claim, Conflict, Source, Trust

META_KEY = "statements_version"
KINDS = ("guide", "constraint", "hardware")
"""Kinds whose documents state facts; profiles, winners and lessons report single measurements."""
TRUST_ORDER = {trust.value: place for place, trust in enumerate(Trust)}


def refresh(connection: Connection, document_id: str) -> None:
    """Read the statements of a document anew, in the transaction that wrote it."""
    if Catalogue.get_meta(connection, META_KEY) is None and len(connection.execute(text("SELECT 1 FROM documents LIMIT 2")).all()) == 1:
        Catalogue.set_meta(connection, META_KEY, VERSION)  # a new base: nothing was read by an older program
    connection.execute(delete(statements).where(statements.c.document_id == document_id))
    kind = connection.execute(text("SELECT kind FROM documents WHERE document_id = :id"), {"id": document_id}).scalar_one_or_none()
    if kind not in KINDS:
        return
    rows: list[dict[str, object]] = []
    for row in connection.execute(select(chunks).where(chunks.c.document_id == document_id).order_by(chunks.c.position)).mappings():
        chunk = chunk_of(row)
        rows += [{"document_id": document_id, "chunk_id": chunk.chunk_id, **found.__dict__} for found in statements_in(chunk)]
    if rows:
        connection.execute(insert(statements), rows)


def refresh_all(connection: Connection) -> None:
    """Read the statements of every document anew."""
    connection.execute(delete(statements))
    for stored in Catalogue.list_documents(connection):
        refresh(connection, stored.document_id)
    Catalogue.set_meta(connection, META_KEY, VERSION)


def is_current(connection: Connection) -> bool:
    """Return whether the table holds what this version of the program would read; a base of an older one does not."""
    return Catalogue.get_meta(connection, META_KEY) == VERSION


def conflicts(connection: Connection, chunk_ids: Sequence[str] | None = None) -> tuple[Conflict, ...]:
    """Return the conflicts, most trusted claim first in each; with `chunk_ids` only those that one of these chunks takes part in."""
    condition = ""
    values: dict[str, object] = {}
    if chunk_ids is not None:
        if not chunk_ids:
            return ()
        condition = " AND s.subject IN (SELECT subject FROM statements WHERE chunk_id IN :chunk_ids)"
        values["chunk_ids"] = list(chunk_ids)
    elif not is_current(connection):
        return ()
    statement = text(
        "SELECT s.subject, s.unit, s.scope, s.low, s.high, s.line, s.quote, s.chunk_id, s.document_id, d.source, d.title, d.trust, t.target "
        "FROM statements s JOIN documents d ON d.document_id = s.document_id JOIN document_targets t ON t.document_id = s.document_id "
        f"WHERE s.document_id NOT IN ({NOT_CURRENT})" + condition + " ORDER BY s.subject, s.unit, d.source, s.line"
    )
    if chunk_ids is not None:
        statement = statement.bindparams(bindparam("chunk_ids", expanding=True))
    groups: dict[tuple[str, str, str], list[Row[Any]]] = {}  # Any: columns of several types
    for row in connection.execute(statement, values):
        groups.setdefault((row.subject, _statement(row).kind, row.scope or row.target), []).append(row)
    found: dict[tuple[str, ...], Conflict] = {}
    for (subject, unit, target), rows in groups.items():
        claims = _claims(rows)
        if chunk_ids is not None and not {claim.chunk_id for claim in claims} & set(chunk_ids):
            continue
        if claims:
            key = tuple(claim.chunk_id for claim in claims)
            targets = (*found[key].targets, target) if key in found else (target,)
            found[key] = Conflict(subject, unit, targets, claims)
    return tuple(found.values())


def conflict_lines(found: Sequence[Conflict]) -> list[str]:
    """Return conflicts as lines for a person or a prompt."""
    lines = []
    for conflict in found:
        lines.append(f"- for {', '.join(conflict.targets)}:")
        lines += [
            f"  [{claim.chunk_id}] {claim.quote} ({claim.source.path}:{claim.source.line_start}; {claim.trust})"
            for claim in conflict.claims
        ]
    return lines


def _claims(rows: Iterable[Row[Any]]) -> tuple[Claim, ...]:  # Any: columns of several types
    """Return one claim per document if at least two of them contradict each other, else nothing."""
    by_document: dict[str, list[Row[Any]]] = {}  # Any: columns of several types
    for row in rows:
        by_document.setdefault(row.document_id, []).append(row)
    single = [own[0] for own in by_document.values() if not any(_statement(own[0]).contradicts(_statement(other)) for other in own[1:])]
    involved = [row for row in single if any(_statement(row).contradicts(_statement(other)) for other in single)]
    involved.sort(key=lambda row: (TRUST_ORDER.get(row.trust, 9), row.source))
    return tuple(Claim(row.quote, row.chunk_id, row.title, Source(row.source, row.line, row.line), Trust(row.trust)) for row in involved)


def _statement(row: Row[Any]) -> Statement:  # Any: columns of several types
    return Statement(row.subject, row.unit, row.scope, row.low, row.high, row.line, row.quote)
