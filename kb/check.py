"""Consistency of a base: documents, text index, vectors and vector index must tell the same story; the catalogue decides."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import Connection, select, text

from kb import fulltext
from kb.catalogue import Catalogue, indexed_row, row_embedded_text, vector_key
from kb.errors import StoreError
from kb.reembedding import discard_leftovers, leftovers
from kb.schema import chunks
from kb.types import CheckReport

if TYPE_CHECKING:
    from kb.store import KnowledgeBase

_ORPHANS = {
    "chunks without a document": "SELECT count(*) FROM chunks WHERE document_id NOT IN (SELECT document_id FROM documents)",
    "chunks without a section": "SELECT count(*) FROM chunks WHERE section_id NOT IN (SELECT section_id FROM sections)",
    "sections without a document": "SELECT count(*) FROM sections WHERE document_id NOT IN (SELECT document_id FROM documents)",
    "documents without sections": "SELECT count(*) FROM documents WHERE document_id NOT IN (SELECT document_id FROM sections)",
    "documents without a target": "SELECT count(*) FROM documents WHERE document_id NOT IN (SELECT document_id FROM document_targets)",
}


def check(base: KnowledgeBase, repair: bool) -> CheckReport:
    """See `KnowledgeBase.check`."""
    repaired: list[str] = []
    if repair and base.index.pending():
        repaired.append(f"{base.index.flush()} waiting vector writes carried out")
    problems = _find(base)
    if repair and problems:
        repaired += _mend(base)
        problems = _find(base)
    with base.catalogue.read() as connection:
        counts = Catalogue.counts(connection)
    return CheckReport(tuple(problems), tuple(repaired), counts)


def _find(base: KnowledgeBase) -> list[str]:
    problems: list[str] = []
    with base.catalogue.read() as connection:
        state = base.catalogue.database.damage(connection)
        if state:
            problems.append(f"the catalogue file is damaged: {state}")
        for name, statement in _ORPHANS.items():
            number = int(connection.execute(text(statement)).scalar_one())
            if number:
                problems.append(f"{number} {name}")
        stale, missing = _vector_state(connection)
        if stale:
            problems.append(f"{stale} chunks whose vector is of another text")
        if missing:
            problems.append(f"{missing} chunks without a vector")
        alien = _of_another_length(connection)
        if alien:
            problems.append(f"{alien} vectors of another length than the embedder's")
        problems += leftovers(connection)
        indexed = fulltext.numbers(connection)
        known = set(connection.execute(select(chunks.c.number)).scalars())
        is_intact = fulltext.is_intact(connection, map(indexed_row, connection.execute(select(chunks)).mappings()))
    if indexed != known:
        problems.append(f"text index: {len(known - indexed)} chunks missing, {len(indexed - known)} not in the catalogue")
    if not is_intact:
        problems.append("text index: damaged")
    waiting = base.index.pending()
    if waiting:
        problems.append(f"{waiting} vector writes are waiting (a process stopped before carrying them out)")
    else:
        try:
            problems += base.index.differences()[0]
        except StoreError as err:
            problems.append(f"vector index: {err}")
    return problems


def _vector_state(connection: Connection) -> tuple[int, int]:
    stale = sum(int(vector_key(row_embedded_text(row)) != row["vector_hash"]) for row in connection.execute(select(chunks)).mappings())
    missing = connection.execute(
        text("SELECT count(*) FROM chunks WHERE vector_hash NOT IN (SELECT vector_hash FROM vectors)")
    ).scalar_one()
    return stale, int(missing)


def _of_another_length(connection: Connection) -> int:
    dimension = Catalogue.recorded_embedder(connection)["dimension"]
    if not dimension:
        return 0
    statement = text("SELECT count(*) FROM vectors WHERE length(vector) <> :bytes")
    return int(connection.execute(statement, {"bytes": 4 * int(dimension)}).scalar_one())


def _mend(base: KnowledgeBase) -> list[str]:
    done: list[str] = []
    if discard_leftovers(base):
        done.append("leftovers of a former embedder removed")
    with base.catalogue.write() as connection:
        dimension = Catalogue.recorded_embedder(connection)["dimension"]
        if dimension:
            connection.execute(text("DELETE FROM vectors WHERE length(vector) <> :bytes"), {"bytes": 4 * int(dimension)})
        broken = connection.execute(
            text(
                "SELECT document_id FROM documents WHERE document_id NOT IN (SELECT document_id FROM sections) "
                "OR document_id NOT IN (SELECT document_id FROM document_targets)"
            )
        ).scalars()
        for document_id in list(broken):
            base.catalogue.remove_document(connection, str(document_id))
            done.append(f"broken document {document_id} removed: ingest it again")
        for statement in (
            "DELETE FROM chunks WHERE document_id NOT IN (SELECT document_id FROM documents)",
            "DELETE FROM sections WHERE document_id NOT IN (SELECT document_id FROM documents)",
        ):
            connection.execute(text(statement))
        rows = connection.execute(select(chunks)).mappings().all()
        fulltext.clear(connection)
        fulltext.add(connection, (indexed_row(row) for row in rows))
        base.catalogue.touch(connection)
    done.append(f"text index rebuilt over {len(rows)} chunks")
    texts = {vector_key(row_embedded_text(row)): row_embedded_text(row) for row in rows}
    with base.catalogue.read() as connection:
        missing = base.catalogue.missing_vectors(connection, list(texts))
    fresh = base.embed_texts({key: texts[key] for key in sorted(missing)})
    with base.catalogue.write() as connection:
        for key, vector in fresh.items():
            connection.execute(
                text("INSERT INTO vectors(vector_hash, vector) VALUES (:k, :v) ON CONFLICT DO NOTHING"), {"k": key, "v": vector}
            )
        for row in rows:
            key = vector_key(row_embedded_text(row))
            if key != row["vector_hash"]:
                connection.execute(text("UPDATE chunks SET vector_hash = :k WHERE number = :n"), {"k": key, "n": row["number"]})
        base.catalogue.collect_vectors(connection)
    if fresh:
        done.append(f"{len(fresh)} vectors embedded again")
    try:
        base.index.rebuild()
        done.append("vector index brought in line with the catalogue")
    except StoreError as err:
        done.append(f"vector index not rebuilt: {err}")
    return done
