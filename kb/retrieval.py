"""Hybrid retrieval: dense and BM25 candidates, fused by standardised scores with a dense lean; the same filters in both legs.

Score of a chunk = dense part + lexical part + section part, each a weighted z-score, so the parts in `explain` add up to the score by construction.
z-scores are taken over each leg's own candidates; a chunk that a leg did not return gets that leg's lowest value, never a reward.
Equal-weight rank fusion is not used: on code-shaped queries it loses against the dense leg alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import Connection, text

from kb import fulltext
from kb.words import query_terms

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from kb.dense import Snapshot
    from kb.embedders.base import Vectors


@dataclass(frozen=True)
class Fusion:
    """How the legs are combined."""

    dense_weight: float = 0.6
    lexical_weight: float = 0.4
    section_weight: float = 0.0
    """Of the mean similarity of the chunks in the same section."""
    pool: int = 200
    """Candidates per leg."""


DENSE_ONLY = Fusion(dense_weight=1.0, lexical_weight=0.0, section_weight=0.0)
LEXICAL_ONLY = Fusion(dense_weight=0.0, lexical_weight=1.0, section_weight=0.0)
MODES = {"hybrid": Fusion(), "dense": DENSE_ONLY, "lexical": LEXICAL_ONLY}


@dataclass(frozen=True)
class Candidate:
    """A chunk with the parts of its score."""

    number: int
    score: float
    parts: dict[str, float]
    similarity: float | None
    """Cosine similarity to the query, if the dense leg saw it."""
    matched: bool
    """Whether the lexical leg returned it."""


Nearest = Callable[[int], list[tuple[int, float]]]
"""`top_k` → (chunk number, cosine similarity), nearest first, within the scope."""


def exact_nearest(snapshot: Snapshot, query_vector: Vectors, allowed: NDArray[np.int64] | None) -> Nearest:
    """Return the exact dense leg over a snapshot.

    Args:
        allowed: Chunk numbers in scope; None for all.
    """
    import numpy as np

    if allowed is None:
        numbers, matrix = snapshot.numbers, snapshot.matrix
    else:
        rows = snapshot.positions(allowed)
        numbers, matrix = snapshot.numbers[rows], snapshot.matrix[rows]
    similarities = matrix @ query_vector if len(numbers) else np.zeros(0, dtype=np.float32)

    def nearest(top_k: int) -> list[tuple[int, float]]:
        if top_k < len(numbers):
            chosen = np.argpartition(-similarities, top_k)[:top_k]
        else:
            chosen = np.arange(len(numbers))
        order = chosen[np.lexsort((numbers[chosen], -similarities[chosen]))]
        return [(int(numbers[row]), float(similarities[row])) for row in order]

    return nearest


def _standardised(scores: Sequence[float]) -> tuple[float, float]:
    """Return mean and standard deviation; the latter never 0."""
    mean = sum(scores) / len(scores)
    deviation = (sum((score - mean) ** 2 for score in scores) / len(scores)) ** 0.5
    return mean, deviation if deviation > 1e-9 else 1.0


def _leg(found: Sequence[tuple[int, float]]) -> tuple[dict[int, float], float]:
    """Return z-scores by chunk and the value of a chunk that the leg did not return."""
    if not found:
        return {}, 0.0
    mean, deviation = _standardised([score for _, score in found])
    scores = {number: (score - mean) / deviation for number, score in found}
    return scores, min(scores.values())


def retrieve(
    connection: Connection, query: str, nearest: Nearest | None, fusion: Fusion, scope_sql: str, parameters: dict[str, object]
) -> list[Candidate]:
    """Return the fused candidates, best first; ties by chunk number."""
    dense_found = nearest(fusion.pool) if nearest is not None and (fusion.dense_weight or fusion.section_weight) else []
    lexical_found = fulltext.search(connection, query_terms(query), fusion.pool, scope_sql, parameters) if fusion.lexical_weight else []
    dense, dense_floor = _leg(dense_found)
    lexical, lexical_floor = _leg(lexical_found)
    similarities = dict(dense_found)
    section = _section_scores(connection, similarities) if fusion.section_weight else {}
    section_floor = min(section.values(), default=0.0)
    candidates = []
    for number in sorted(dense.keys() | lexical.keys()):
        parts = {
            "dense": fusion.dense_weight * dense.get(number, dense_floor),
            "lexical": fusion.lexical_weight * lexical.get(number, lexical_floor),
        }
        if fusion.section_weight:
            parts["section"] = fusion.section_weight * section.get(number, section_floor)
        candidates.append(Candidate(number, sum(parts.values()), parts, similarities.get(number), number in lexical))
    candidates.sort(key=lambda candidate: (-candidate.score, candidate.number))
    return candidates


def _section_scores(connection: Connection, similarities: dict[int, float]) -> dict[int, float]:
    """Return the standardised mean similarity of each candidate's section, over the candidates in it."""
    if not similarities:
        return {}
    numbers = sorted(similarities)
    section_of: dict[int, str] = {}
    for begin in range(0, len(numbers), 500):
        part = numbers[begin : begin + 500]
        names = ", ".join(str(number) for number in part)  # integers of ours
        section_of |= {
            int(row[0]): str(row[1]) for row in connection.execute(text(f"SELECT number, section_id FROM chunks WHERE number IN ({names})"))
        }
    groups: dict[str, list[float]] = {}
    for number, section_id in section_of.items():
        groups.setdefault(section_id, []).append(similarities[number])
    means = {section_id: sum(values) / len(values) for section_id, values in groups.items()}
    mean, deviation = _standardised(list(means.values()))
    return {number: (means[section_id] - mean) / deviation for number, section_id in section_of.items()}
