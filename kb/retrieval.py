"""Hybrid retrieval: dense and BM25 candidates, fused by score, with the document as context; the same filters in both legs.

The score of a chunk is a sum of parts, so what `explain` shows adds up to it by construction:

- `dense`: the cosine similarity as a z-score over the union of both legs' candidates; that of a chunk that only BM25 found is computed.
- `lexical`: the BM25 score as a share of the most that this query could get from any text, on the scale of the z-scores. A chunk that BM25 did not find
  scores 0 there, or the lowest score found if the leg was cut off.
- `first`: the reciprocal rank in each leg. What one leg has at the very top stays near the top even if the other leg has never heard of it: a paraphrase
  that shares no word with its answer, an identifier that means nothing to the embedder.
- `document`: the similarity of the whole document (of its first chunks), standardised. It adds context to leaves and never stands between a query and a leaf.
- `repeat`: what a chunk loses for each better one of the same section, so that the first hits are not one section cut in pieces.
- `target`: what a chunk gains or loses if the question names a family of targets, and gains if its document states the target; see `kb/target_words.py`.
- `links`: what a chunk loses that consists of links for the most part; see `kb/navigation.py`.

Words weigh by their evidence. A z-score or a rank calls the best match of any query excellent, even one that shares a single common word with it; on questions
in other words than their answer BM25 then pushes the right passage down with as much force as it lifts one that is quoted. The share tells the two apart: a
pasted error message reaches about half of what it could, a paraphrase a fifth. (Normalising by the theoretical maximum: Bruch et al., "An Analysis of Fusion Functions for
Hybrid Retrieval", TOIS 2023.) For cosines the range that means anything depends on the embedder, so they stay standardised. Equal-weight rank fusion is not
used: on code-shaped queries it loses against the dense leg alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from sqlalchemy import Connection, bindparam, text

from kb import fulltext
from kb.levels import document_similarities
from kb.navigation import leading_elsewhere
from kb.target_words import about, stating, target_fit
from kb.words import query_terms

if TYPE_CHECKING:
    from kb.embedders.base import Vectors

LEXICAL_SCALE = 20.0
"""What the largest BM25 score that a query can get is worth at a weight of 1: among the candidates of a query the share deviates by 0.04 to 0.05 in four collections
of different kinds, which makes one deviation about 1 as it is for the z-scores."""
LINKS_LOOKED_AT = 40
"""So many of the best candidates are looked at for links: their texts have to be read, which takes 0.1 ms each from a large base."""
LOOKED_AT = 100
"""So many of the best candidates are compared with each other and with the target that a question names."""


@dataclass(frozen=True)
class Fusion:
    """How the parts of a score are weighted."""

    dense_weight: float = 0.6
    lexical_weight: float = 0.4
    first_weight: float = 0.25
    document_weight: float = 0.15
    repeat_penalty: float = 1.0
    links_penalty: float = 1.0
    pool: int = 200
    """Candidates per leg."""

    @property
    def needs_vectors(self) -> bool:
        """Whether the query has to be embedded."""
        return self.dense_weight > 0 or self.document_weight > 0


DEFAULT = Fusion()
MODES = {
    "hybrid": DEFAULT,
    "dense": Fusion(dense_weight=1.0, lexical_weight=0.0, first_weight=0.0, document_weight=0.0, repeat_penalty=0.0, links_penalty=0.0),
    "lexical": Fusion(dense_weight=0.0, lexical_weight=1.0, first_weight=0.0, document_weight=0.0, repeat_penalty=0.0, links_penalty=0.0),
    "flat": Fusion(first_weight=0.0, document_weight=0.0, repeat_penalty=0.0, links_penalty=0.0),
    "leaves": replace(DEFAULT, document_weight=0.0, repeat_penalty=0.0),
}
"""The default (`hybrid`) and what it is compared with: each leg alone, fixed weights without levels (`flat`), the default without levels (`leaves`)."""


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


def _standardised(scores: dict[int, float]) -> dict[int, float]:
    """Return z-scores; all 0 if the scores do not differ."""
    if not scores:
        return {}
    mean = sum(scores.values()) / len(scores)
    deviation = (sum((score - mean) ** 2 for score in scores.values()) / len(scores)) ** 0.5
    return {number: (score - mean) / deviation if deviation > 1e-9 else 0.0 for number, score in scores.items()}


def retrieve(
    connection: Connection,
    query: str,
    dense_leg: DenseLeg | None,
    fusion: Fusion,
    scope_sql: str,
    parameters: dict[str, object],
    vector: Vectors | None = None,
    target: str | None = None,
) -> list[Candidate]:
    """Return the fused candidates, best first; ties by chunk number.

    Args:
        connection: To the catalogue.
        query: The query's text.
        dense_leg: None: without vectors.
        fusion: The weights.
        scope_sql: SQL that selects the allowed chunk numbers; empty: all.
        parameters: Its bound values.
        vector: Unit vector of the query, for what stands above the leaves; None: leaves alone.
        target: What the query is about, if that is one target or family.
    """
    is_dense = dense_leg is not None and fusion.needs_vectors
    dense_found = dense_leg.nearest(fusion.pool) if dense_leg is not None and is_dense else []
    terms = query_terms(query) if fusion.lexical_weight > 0 else []
    lexical_found = fulltext.search(connection, terms, fusion.pool, scope_sql, parameters)
    similarities, matches = dict(dense_found), dict(lexical_found)
    if dense_leg is not None and is_dense:
        similarities |= dense_leg.similarities([number for number in matches if number not in similarities])
    numbers = sorted(similarities.keys() | matches.keys())
    floor = min(matches.values(), default=0.0) if len(matches) >= fusion.pool else 0.0
    weighted: list[tuple[str, float, dict[int, float]]] = []
    if fusion.dense_weight > 0:
        weighted.append(("dense", fusion.dense_weight, _standardised(similarities)))
    if terms:
        most = fulltext.most(connection, terms)
        share = {number: matches.get(number, floor) / most for number in numbers}
        weighted.append(("lexical", LEXICAL_SCALE * fusion.lexical_weight, share))
    if fusion.first_weight > 0:
        weighted.append(("first", fusion.first_weight, _reciprocal_ranks((similarities, matches))))
    if vector is not None and fusion.document_weight > 0:
        weighted.append(("document", fusion.document_weight, _standardised(document_similarities(connection, numbers, vector))))
    parts = {number: {name: weight * scores.get(number, 0.0) for name, weight, scores in weighted} for number in numbers}
    best = sorted(numbers, key=lambda number: (-sum(parts[number].values()), number))[:LOOKED_AT]
    if fusion.links_penalty > 0:
        for number in leading_elsewhere(connection, best[:LINKS_LOOKED_AT]):
            parts[number]["links"] = -fusion.links_penalty
    family = about(target)
    if target is not None and family is not None:
        for number, value in (*target_fit(connection, best, family).items(), *stating(connection, best, target).items()):
            parts[number]["target"] = parts[number].get("target", 0.0) + value
    candidates = [
        Candidate(number, sum(parts[number].values()), parts[number], similarities.get(number), number in matches) for number in numbers
    ]
    candidates.sort(key=lambda candidate: (-candidate.score, candidate.number))
    if fusion.repeat_penalty > 0:
        candidates = _spread(connection, candidates, fusion.repeat_penalty)
    return candidates


def _reciprocal_ranks(legs: Sequence[dict[int, float]]) -> dict[int, float]:
    """Return the sum of the reciprocal ranks in the legs; ties by number."""
    values: dict[int, float] = {}
    for scores in legs:
        for rank, number in enumerate(sorted(scores, key=lambda item: (-scores[item], item)), start=1):
            values[number] = values.get(number, 0.0) + 1.0 / rank
    return values


def _spread(connection: Connection, candidates: list[Candidate], penalty: float) -> list[Candidate]:
    """Return the candidates with each section's second and later ones among the first set back."""
    first = candidates[:LOOKED_AT]
    section_of = _sections(connection, [candidate.number for candidate in first])
    seen: dict[str, int] = {}
    spread = []
    for candidate in first:
        section = section_of.get(candidate.number, "")
        repeats = seen.get(section, 0)
        seen[section] = repeats + 1
        if repeats:
            loss = -penalty * repeats
            candidate = replace(candidate, score=candidate.score + loss, parts={**candidate.parts, "repeat": loss})
        spread.append(candidate)
    return sorted([*spread, *candidates[LOOKED_AT:]], key=lambda candidate: (-candidate.score, candidate.number))


def _sections(connection: Connection, numbers: Sequence[int]) -> dict[int, str]:
    statement = text("SELECT number, section_id FROM chunks WHERE number IN :numbers").bindparams(bindparam("numbers", expanding=True))
    return {int(row[0]): str(row[1]) for row in connection.execute(statement, {"numbers": list(numbers)})}
