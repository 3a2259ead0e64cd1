"""Hybrid retrieval: dense and BM25 candidates, fused by standardised scores with a dense lean; the same filters in both legs.

Score of a chunk = dense part + lexical part (+ section part), each a weighted z-score, so the parts in `explain` add up to the score by construction.
z-scores are taken over the union of both legs' candidates, on which both legs are known: the cosine of a chunk that only BM25 found is computed, and a chunk
that BM25 did not find scores 0 there, or the lowest score found if the leg was cut off. Equal-weight rank fusion is not used: on code-shaped queries it loses
against the dense leg alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

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

    dense_weight: float = 0.7
    lexical_weight: float = 0.3
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


class DenseLeg(Protocol):
    """The dense leg of one query within its scope."""

    def nearest(self, top_k: int) -> list[tuple[int, float]]:
        """Return (chunk number, cosine similarity), nearest first, ties by number."""

    def similarities(self, numbers: Sequence[int]) -> dict[int, float]:
        """Return the cosine similarity of chunks in scope."""


class ExactLeg:
    """Scores every chunk of a snapshot.

    Args:
        snapshot: The vectors.
        query_vector: Unit vector of the query.
        allowed: Chunk numbers in scope, ascending; None for all.
    """

    def __init__(self, snapshot: Snapshot, query_vector: Vectors, allowed: NDArray[np.int64] | None) -> None:
        import numpy as np

        rows = None if allowed is None else snapshot.positions(allowed)
        self._numbers = snapshot.numbers if rows is None else snapshot.numbers[rows]
        matrix = snapshot.matrix if rows is None else snapshot.matrix[rows]
        self._scores = matrix @ query_vector if len(self._numbers) else np.zeros(0, dtype=np.float32)

    def nearest(self, top_k: int) -> list[tuple[int, float]]:
        """Return (chunk number, cosine similarity), nearest first, ties by number."""
        import numpy as np

        whole = top_k >= len(self._numbers)
        chosen = np.arange(len(self._numbers)) if whole else np.argpartition(-self._scores, top_k)[:top_k]
        order = chosen[np.lexsort((self._numbers[chosen], -self._scores[chosen]))]
        return [(int(self._numbers[row]), float(self._scores[row])) for row in order]

    def similarities(self, numbers: Sequence[int]) -> dict[int, float]:
        """Return the cosine similarity of chunks in scope."""
        import numpy as np

        rows = np.searchsorted(self._numbers, np.asarray(numbers, dtype=np.int64))
        return {
            number: float(self._scores[row])
            for number, row in zip(numbers, rows, strict=True)
            if row < len(self._numbers) and self._numbers[row] == number
        }


def _standardised(scores: dict[int, float]) -> dict[int, float]:
    """Return z-scores; all 0 if the scores do not differ."""
    if not scores:
        return {}
    mean = sum(scores.values()) / len(scores)
    deviation = (sum((score - mean) ** 2 for score in scores.values()) / len(scores)) ** 0.5
    return {number: (score - mean) / deviation if deviation > 1e-9 else 0.0 for number, score in scores.items()}


def retrieve(
    connection: Connection, query: str, dense_leg: DenseLeg | None, fusion: Fusion, scope_sql: str, parameters: dict[str, object]
) -> list[Candidate]:
    """Return the fused candidates, best first; ties by chunk number."""
    is_dense = dense_leg is not None and (fusion.dense_weight > 0 or fusion.section_weight > 0)
    dense_found = dense_leg.nearest(fusion.pool) if dense_leg is not None and is_dense else []
    lexical_found = fulltext.search(connection, query_terms(query), fusion.pool, scope_sql, parameters) if fusion.lexical_weight > 0 else []
    similarities, matches = dict(dense_found), dict(lexical_found)
    if dense_leg is not None and is_dense:
        similarities |= dense_leg.similarities([number for number in matches if number not in similarities])
    numbers = sorted(similarities.keys() | matches.keys())
    floor = min(matches.values(), default=0.0) if len(matches) >= fusion.pool else 0.0
    weighted = [("dense", fusion.dense_weight, _standardised(similarities))]
    weighted.append(("lexical", fusion.lexical_weight, _standardised({number: matches.get(number, floor) for number in numbers})))
    if fusion.section_weight > 0:
        weighted.append(("section", fusion.section_weight, _section_scores(connection, similarities)))
    candidates = []
    for number in numbers:
        parts = {name: weight * scores.get(number, 0.0) for name, weight, scores in weighted if weight > 0}
        candidates.append(Candidate(number, sum(parts.values()), parts, similarities.get(number), number in matches))
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
    return _standardised({number: means[section_id] for number, section_id in section_of.items()})
