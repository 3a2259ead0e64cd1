"""Winners and lessons in the catalogue: storing them and finding those that fit."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict

from sqlalchemy import Connection, delete, func, insert, select, update

from kb.errors import UnknownNameError
from kb.records import lesson_from_json, lesson_id, lesson_json, winner_from_json, winner_id, winner_json
from kb.schema import chunks, documents, lesson_evidence, lessons, winners
from kb.targets import visible
from kb.types import Confirmation, Lesson, LessonMatch, Winner, WinnerMatch
from kb.words import query_terms

if TYPE_CHECKING:
    from kb.embedders.base import Embedder

EmbedderSource = Callable[[], "Embedder"]

MIN_PROBLEMS = 2
"""A gain certain on so many problems promotes a lesson."""
MIN_REFUTATIONS = 2
HALF_LIFE_DAYS = 180.0
"""Compilers and drivers move: half a year without fresh evidence halves the weight of a lesson."""
STALE = 0.125
"""Left after three half-lives."""


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


@dataclass(frozen=True)
class LessonQuery:
    """What lessons are asked for; see `KnowledgeBase.lessons`."""

    target: str
    question: str | None
    problem_id: str | None
    anchor: str | None
    status: tuple[str, ...]
    limit: int
    versions: Mapping[str, str]
    now: float


def store_lesson(connection: Connection, lesson: Lesson) -> str:
    """Write the record of a lesson, and its measurement as evidence if it has none yet; return its id."""
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
    if not evidence_of(connection, key):
        effect = max(lesson.effect, 1e-9)
        low, high = max(min(lesson.effect_low, effect), 1e-9), max(lesson.effect_high, effect)
        add_evidence(
            connection, key, Confirmation(lesson.evidence[0], lesson.problem_id, effect, low, high, versions=dict(lesson.versions))
        )
    return key


def get_lesson(connection: Connection, key: str) -> Lesson:
    """Return a lesson by id.

    Raises:
        UnknownNameError: There is none.
    """
    record = connection.execute(select(lessons.c.record).where(lessons.c.lesson_id == key)).scalar_one_or_none()
    if record is None:
        raise UnknownNameError(f"no lesson {key!r}; `kb lessons` lists them")
    return lesson_from_json(record)


def add_evidence(connection: Connection, key: str, confirmation: Confirmation) -> None:
    """Store a measurement; the same evaluation again replaces what it said."""
    get_lesson(connection, key)
    same = (lesson_evidence.c.lesson_id == key, lesson_evidence.c.evidence_id == confirmation.evidence_id)
    connection.execute(delete(lesson_evidence).where(*same))
    connection.execute(
        insert(lesson_evidence).values(
            lesson_id=key,
            evidence_id=confirmation.evidence_id,
            kind="ablation" if confirmation.is_ablation else "measurement",
            problem_id=confirmation.problem_id,
            effect=confirmation.effect,
            effect_low=confirmation.effect_low,
            effect_high=confirmation.effect_high,
            versions=dict(confirmation.versions),
            created_at=time.time(),
        )
    )


def evidence_of(connection: Connection, key: str) -> tuple[Confirmation, ...]:
    """Return the measurements behind a lesson, oldest first."""
    query = select(lesson_evidence).where(lesson_evidence.c.lesson_id == key)
    rows = connection.execute(query.order_by(lesson_evidence.c.created_at, lesson_evidence.c.evidence_id)).mappings()
    return tuple(
        Confirmation(
            row["evidence_id"],
            row["problem_id"],
            row["effect"],
            row["effect_low"],
            row["effect_high"],
            row["kind"] == "ablation",
            dict(row["versions"]),
        )
        for row in rows
    )


def judged_lesson(connection: Connection, key: str) -> Lesson:
    """Return a lesson with the effect and the status that all its evidence gives.

    The effect is the mean of the logarithms, weighted by the inverse square of each interval's width; its interval is the pooled one. For: an interval above
    1.0; against: one that does not reach 1.0. Promoted with two problems for, or one of them an ablation; retired when those against are at least two and outnumber those for.
    """
    lesson, evidence = get_lesson(connection, key), evidence_of(connection, key)
    weights = [1.0 / max(math.log(item.effect_high / item.effect_low), 1e-3) ** 2 for item in evidence]
    centre = sum(weight * math.log(item.effect) for weight, item in zip(weights, evidence, strict=True)) / sum(weights)
    half = 0.5 / math.sqrt(sum(weights))
    supporting = [item for item in evidence if item.effect_low > 1.0]
    refuting = [item for item in evidence if item.effect_high < 1.0]
    status = "provisional"
    if len(refuting) >= MIN_REFUTATIONS and len(refuting) > len(supporting):
        status = "retired"
    elif len(supporting) > len(refuting) and (
        len({item.problem_id for item in supporting}) >= MIN_PROBLEMS or any(item.is_ablation for item in supporting)
    ):
        status = "promoted"
    return dataclasses.replace(
        lesson,
        effect=math.exp(centre),
        effect_low=math.exp(centre - half),
        effect_high=math.exp(centre + half),
        evidence=tuple(dict.fromkeys([*lesson.evidence, *(item.evidence_id for item in evidence)])),
        status=status,
    )


def strength(last_evidence_at: float, now: float, measured: Mapping[str, str], versions: Mapping[str, str]) -> float:
    """Return how much of a lesson's weight is left.

    Args:
        last_evidence_at: Seconds since 1970.
        now: Seconds since 1970.
        measured: Versions it was measured with.
        versions: Versions at hand; only packages named in both count, by their first two numbers.
    """
    others = sum(measured[name].split(".")[:2] != versions[name].split(".")[:2] for name in measured.keys() & versions.keys())
    age_days = max(0.0, now - last_evidence_at) / 86_400.0
    return round(float(0.5 ** (age_days / HALF_LIFE_DAYS + others)), 4)


def stale_lessons(connection: Connection, now: float) -> tuple[str, ...]:
    """Return the ids of provisional lessons whose last evidence is so old that less than `STALE` of their weight is left."""
    rows = connection.execute(select(lessons.c.lesson_id).where(lessons.c.status == "provisional").order_by(lessons.c.lesson_id)).scalars()
    return tuple(str(key) for key in list(rows) if strength(_last_evidence(connection, str(key)), now, {}, {}) < STALE)


def find_lessons(connection: Connection, embedder: EmbedderSource, wanted: LessonQuery) -> tuple[LessonMatch, ...]:
    """Return the lessons that hold for the target, promoted ones first and the freshest evidence first, or by relevance to the question."""
    query = select(lessons).where(lessons.c.target.in_(visible(wanted.target)), lessons.c.status.in_(wanted.status))
    if wanted.problem_id is not None:
        query = query.where(lessons.c.problem_id == wanted.problem_id)
    rows = connection.execute(query.order_by(lessons.c.created_at.desc(), lessons.c.lesson_id)).mappings().all()
    found = [(row, lesson_from_json(row["record"])) for row in rows]
    if wanted.anchor is not None:
        found = [(row, lesson) for row, lesson in found if lesson.preconditions.get("anchor", wanted.anchor) == wanted.anchor]
    strengths = [
        strength(_last_evidence(connection, row["lesson_id"]), wanted.now, lesson.versions, wanted.versions) for row, lesson in found
    ]
    if wanted.question:
        scores = _similarities(embedder, wanted.question, [f"{lesson.claim}\n{dict(lesson.preconditions)}" for _, lesson in found])
        order = sorted(range(len(found)), key=lambda index: (-scores[index], index))
    else:
        scores = [1.0] * len(found)
        order = sorted(range(len(found)), key=lambda index: (found[index][1].status != "promoted", -strengths[index], index))
    return tuple(
        LessonMatch(
            found[index][0]["lesson_id"],
            found[index][1],
            scores[index],
            **_cited(connection, f"lesson:{found[index][0]['lesson_id']}"),
            strength=strengths[index],
        )
        for index in order[: wanted.limit]
    )


def _last_evidence(connection: Connection, key: str) -> float:
    found = connection.execute(
        select(func.max(lesson_evidence.c.created_at)).where(lesson_evidence.c.lesson_id == key)
    ).scalar_one_or_none()
    if found is None:  # stored by a version that kept no evidence
        found = connection.execute(select(lessons.c.created_at).where(lessons.c.lesson_id == key)).scalar_one()
    return float(found)


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
