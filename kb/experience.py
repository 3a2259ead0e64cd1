"""Winners and lessons in the catalogue: storing them and finding those that fit."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypedDict

from sqlalchemy import Connection, delete, insert, select, update

from kb.errors import UnknownNameError
from kb.records import lesson_from_json, lesson_id, lesson_json, winner_from_json, winner_id, winner_json
from kb.schema import chunks, documents, lessons, winners
from kb.targets import visible
from kb.types import Lesson, LessonMatch, Winner, WinnerMatch
from kb.words import query_terms

if TYPE_CHECKING:
    from kb.embedders.base import Embedder

EmbedderSource = Callable[[], "Embedder"]


class _Cited(TypedDict):
    document_id: str
    chunk_ids: tuple[str, ...]


def store_winner(connection: Connection, winner: Winner) -> str:
    """Write the record of a winner; return its id."""
    key = winner_id(winner)
    connection.execute(delete(winners).where(winners.c.winner_id == key))
    connection.execute(
        insert(winners).values(
            winner_id=key,
            problem_id=winner.problem_id,
            problem_hash=winner.problem_hash,
            signature=winner.signature,
            target=winner.target,
            record=winner_json(winner),
            status="active",
            created_at=time.time(),
        )
    )
    return key


def retire_winner(connection: Connection, key: str) -> None:
    """Mark a winner as retired.

    Raises:
        UnknownNameError: There is none with this id.
    """
    if connection.execute(update(winners).where(winners.c.winner_id == key).values(status="retired")).rowcount == 0:
        raise UnknownNameError(f"no winner {key!r}")


def find_winners(
    connection: Connection,
    embedder: EmbedderSource,
    target: str,
    signature: str | None,
    problem_hash: str | None,
    limit: int,
    include_retired: bool,
) -> tuple[WinnerMatch, ...]:
    """Return winners that hold for the target: same problem, same signature, then similar ones."""
    query = select(winners).where(winners.c.target.in_(visible(target))).order_by(winners.c.created_at.desc(), winners.c.winner_id)
    if not include_retired:
        query = query.where(winners.c.status == "active")
    rows = connection.execute(query).mappings().all()
    graded: list[tuple[int, float, int]] = []
    others: list[int] = []
    for index, row in enumerate(rows):
        if signature is None and problem_hash is None:
            graded.append((3, 1.0, index))
        elif problem_hash is not None and row["problem_hash"] == problem_hash:
            graded.append((0, 1.0, index))
        elif signature is not None and row["signature"] == signature:
            graded.append((1, 1.0, index))
        elif signature is not None:
            others.append(index)
    if signature is not None and others and len(graded) < limit:
        scores = _similarities(embedder, signature, [str(rows[index]["signature"]) for index in others])
        graded += [(2, score, index) for index, score in zip(others, scores, strict=True)]
    graded.sort(key=lambda entry: (entry[0], -entry[1], entry[2]))
    names = ("problem", "signature", "similar", "target")
    return tuple(
        WinnerMatch(
            winner_id=rows[index]["winner_id"],
            winner=winner_from_json(rows[index]["record"]),
            match=names[grade],
            score=score,
            **_cited(connection, f"winner:{rows[index]['winner_id']}"),
            status=rows[index]["status"],
        )
        for grade, score, index in graded[:limit]
    )


def store_lesson(connection: Connection, lesson: Lesson) -> str:
    """Write the record of a lesson; return its id."""
    key = lesson_id(lesson)
    connection.execute(delete(lessons).where(lessons.c.lesson_id == key))
    connection.execute(
        insert(lessons).values(
            lesson_id=key,
            target=lesson.target,
            problem_id=lesson.problem_id,
            record=lesson_json(lesson),
            status=lesson.status,
            created_at=time.time(),
        )
    )
    return key


def find_lessons(
    connection: Connection,
    embedder: EmbedderSource,
    target: str,
    question: str | None,
    problem_id: str | None,
    anchor: str | None,
    status: tuple[str, ...],
    limit: int,
) -> tuple[LessonMatch, ...]:
    """Return the lessons that hold for the target, promoted ones first, or by relevance to the question."""
    query = select(lessons).where(lessons.c.target.in_(visible(target)), lessons.c.status.in_(status))
    if problem_id is not None:
        query = query.where(lessons.c.problem_id == problem_id)
    rows = connection.execute(query.order_by(lessons.c.created_at.desc(), lessons.c.lesson_id)).mappings().all()
    found = [(row, lesson_from_json(row["record"])) for row in rows]
    if anchor is not None:
        found = [(row, lesson) for row, lesson in found if lesson.preconditions.get("anchor", anchor) == anchor]
    if question:
        scores = _similarities(embedder, question, [f"{lesson.claim}\n{dict(lesson.preconditions)}" for _, lesson in found])
        order = sorted(range(len(found)), key=lambda index: (-scores[index], index))
    else:
        scores = [1.0] * len(found)
        order = sorted(range(len(found)), key=lambda index: (found[index][1].status != "promoted", index))
    return tuple(
        LessonMatch(
            found[index][0]["lesson_id"], found[index][1], scores[index], **_cited(connection, f"lesson:{found[index][0]['lesson_id']}")
        )
        for index in order[:limit]
    )


def _similarities(embedder: EmbedderSource, wanted: str, others: Sequence[str]) -> list[float]:
    """Return the mean of cosine similarity and word overlap (Jaccard) of texts with `wanted`, 0 to 1."""
    if not others:
        return []
    rows = embedder().embed_documents([wanted, *others])
    words = set(query_terms(wanted))
    found = []
    for row, other in zip(rows[1:], others, strict=True):
        terms = set(query_terms(other))
        overlap = len(words & terms) / max(1, len(words | terms))
        found.append(max(0.0, min(1.0, 0.5 * float(rows[0] @ row) + 0.5 * overlap)))
    return found


def _cited(connection: Connection, source: str) -> _Cited:
    document_id = connection.execute(select(documents.c.document_id).where(documents.c.source == source)).scalar_one_or_none() or ""
    ids = (
        connection.execute(select(chunks.c.chunk_id).where(chunks.c.document_id == document_id).order_by(chunks.c.position)).scalars().all()
    )
    return {"document_id": document_id, "chunk_ids": tuple(str(item) for item in ids)}
