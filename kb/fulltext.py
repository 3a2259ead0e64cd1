"""The full-text index: SQLite FTS5 over heading path, text and the parts of identifiers, scored by BM25.

BM25: Robertson and Zaragoza 2009, with FTS5's constants k1 = 1.2 and b = 0.75 (https://www.sqlite.org/fts5.html, section 5.1.1).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlalchemy import Connection, text

from kb.words import identifier_parts, tokens

CREATE = (
    "CREATE VIRTUAL TABLE IF NOT EXISTS chunks_fts USING fts5(path, body, parts, tokenize = \"porter unicode61 remove_diacritics 2 tokenchars '_'\")",
)

COUNT_LIMIT = 2000
"""Beyond this a word is common, however common."""

WEIGHTS = (1.0, 1.0, 0.5)
"""Of the columns path, body and parts."""


def add(connection: Connection, rows: Iterable[tuple[int, str, str]]) -> None:
    """Index chunks: number, heading path, text with its context."""
    values = [{"n": number, "p": path, "b": body, "i": identifier_parts(f"{path}\n{body}")} for number, path, body in rows]
    if values:
        connection.execute(text("INSERT INTO chunks_fts(rowid, path, body, parts) VALUES (:n, :p, :b, :i)"), values)


def remove(connection: Connection, numbers: Sequence[int]) -> None:
    """Take chunks out of the index."""
    if numbers:
        connection.execute(text("DELETE FROM chunks_fts WHERE rowid = :n"), [{"n": number} for number in numbers])


def match_expression(terms: Sequence[str]) -> str:
    """Return the FTS5 expression that matches any of the terms; every term is quoted, so no syntax of the user's gets through."""
    return " OR ".join('"' + token + '"' for term in terms for token in tokens(term))


def search(connection: Connection, terms: Sequence[str], top_k: int, scope: str, parameters: dict[str, object]) -> list[tuple[int, float]]:
    """Return the best chunks as (number, BM25 score), best first; higher is better.

    Args:
        scope: SQL that selects the allowed chunk numbers, or empty for all.
        parameters: Its bound values.
    """
    expression = match_expression(terms)
    if not expression:
        return []
    where = f" AND chunks_fts.rowid IN ({scope})" if scope else ""
    weights = ", ".join(str(weight) for weight in WEIGHTS)
    statement = text(
        f"SELECT rowid, -bm25(chunks_fts, {weights}) AS score FROM chunks_fts WHERE chunks_fts MATCH :expression{where} "
        "ORDER BY score DESC, rowid LIMIT :top_k"
    )
    found = connection.execute(statement, {"expression": expression, "top_k": top_k, **parameters})
    return [(int(row[0]), float(row[1])) for row in found]


def num_matching(connection: Connection, word: str) -> int:
    """Return the number of chunks that hold the word, or all tokens of it, word forms folded; counted up to `COUNT_LIMIT`."""
    expression = match_expression([word]).replace(" OR ", " AND ")
    if not expression:
        return 0
    row = connection.execute(
        text("SELECT count(*) FROM (SELECT 1 FROM chunks_fts WHERE chunks_fts MATCH :e LIMIT :limit)"),
        {"e": expression, "limit": COUNT_LIMIT},
    ).first()
    return int(row[0]) if row else 0


def numbers(connection: Connection) -> set[int]:
    """Return the numbers of all indexed chunks."""
    return {int(row[0]) for row in connection.execute(text("SELECT rowid FROM chunks_fts"))}


def is_intact(connection: Connection) -> bool:
    """Return whether FTS5's own integrity check passes."""
    from sqlalchemy.exc import DatabaseError

    try:
        connection.execute(text("INSERT INTO chunks_fts(chunks_fts) VALUES ('integrity-check')"))
    except DatabaseError:
        return False
    return True


def clear(connection: Connection) -> None:
    """Drop and create the index anew."""
    connection.execute(text("DROP TABLE IF EXISTS chunks_fts"))
    for statement in CREATE:
        connection.execute(text(statement))
