"""One query from text to hits: scope, legs, fusion, folding of equal texts, abstention."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, bindparam, text

from kb.abstention import judge
from kb.dense import ScanLeg, Snapshots
from kb.errors import StoreError
from kb.fulltext import allowed_numbers, num_chunks
from kb.index import embedder_epoch
from kb.places import citation_of, pages_of
from kb.retrieval import Candidate, DenseLeg, Fusion, retrieve
from kb.scope import scope
from kb.shingles import Shingles
from kb.target_words import named_target
from kb.targets import visible
from kb.types import Filters, Hit, Kind, QueryResult, Source, Trust
from kb.vectors import collection_name

if TYPE_CHECKING:
    from kb.catalogue import Catalogue
    from kb.embedders.base import Embedder, Vectors
    from kb.index import VectorIndex

MAX_QUERY_CHARACTERS = 20_000
SCAN_LIMIT = 3_000_000
"""Up to so many chunks a process scans the vectors in its files (see `kb/dense.py`)."""
SCAN_LIMIT_SERVER = 200_000
"""The same where a Chroma server holds the vectors: every process that scans has to fetch them once."""
EMBEDDER_CHANGES = 5
"""So many changes of the embedder during one query are followed."""


class Searcher:
    """Answers queries over one catalogue; keeps the vectors of the current generation in memory.

    Args:
        catalogue: What is searched.
        embedder: Returns the embedder, loading it at the first use.
        index: Used beyond `scan_limit` chunks.
        scan_limit: Up to so many chunks this process scans the vectors itself; beyond that it asks Chroma.
    """

    def __init__(self, catalogue: Catalogue, embedder: Callable[[], Embedder], index: VectorIndex, scan_limit: int | None = None) -> None:
        self._catalogue = catalogue
        self._embedder = embedder
        self._index = index
        self._scan_limit = scan_limit if scan_limit is not None else SCAN_LIMIT_SERVER if index.is_server else SCAN_LIMIT
        self._snapshots = Snapshots(catalogue.folder)

    def query(self, query: str, top_k: int, filters: Filters, explain: bool, fusion: Fusion, infer_target: bool = True) -> QueryResult:
        """Return the hits; see `KnowledgeBase.query`."""
        if not query.strip():
            raise ValueError("the query is empty; write a question, an identifier or an error message")
        if top_k < 1:
            raise ValueError(f"top_k must be at least 1, got {top_k!r}")
        query = query[:MAX_QUERY_CHARACTERS].replace("\0", "")
        if filters.target is None and infer_target:
            filters = dataclasses.replace(filters, target=named_target(query))
        for _ in range(EMBEDDER_CHANGES):
            epoch = self._epoch()
            vector = self._embedder().embed_query(query) if self._has_chunks() and fusion.needs_vectors else None
            try:
                result = self._answer(query, vector, epoch, top_k, filters, explain, fusion)
            except StoreError:
                if epoch == self._epoch():
                    raise
                continue  # the collections of the former embedder were dropped under the query
            if result is not None:
                return result
        raise StoreError("the embedder of this base keeps changing; try again")

    def _answer(
        self, query: str, vector: Vectors | None, epoch: str, top_k: int, filters: Filters, explain: bool, fusion: Fusion
    ) -> QueryResult | None:
        """Return the result over one state of the catalogue; None if its vectors are of another embedder than the query's by now."""
        with self._catalogue.read() as connection:
            if vector is not None and embedder_epoch(connection) != epoch:
                return None
            scope_sql, parameters = scope(connection, filters)
            leg = self._dense_leg(connection, vector, filters, scope_sql, parameters) if vector is not None else None
            candidates = retrieve(connection, query, leg, fusion, scope_sql, parameters, vector, filters.target)
            hits = _hits(connection, candidates, top_k, explain)
            abstained, reason = judge(connection, query, candidates, hits)
        return QueryResult(tuple(hits), abstained, reason, filters.target)

    def _epoch(self) -> str:
        with self._catalogue.read() as connection:
            return embedder_epoch(connection)

    def _has_chunks(self) -> bool:
        with self._catalogue.read() as connection:
            return connection.execute(text("SELECT 1 FROM chunks LIMIT 1")).first() is not None

    def _dense_leg(
        self, connection: Connection, vector: Vectors, filters: Filters, scope_sql: str, parameters: Mapping[str, object]
    ) -> DenseLeg:
        generation = self._catalogue.generation(connection)
        if num_chunks(connection) > self._scan_limit:
            return _ApproximateLeg(connection, self._index, vector, filters, scope_sql, parameters)
        allowed = allowed_numbers(connection, scope_sql, dict(parameters), generation) if scope_sql else None
        return ScanLeg(self._snapshots.at(connection), vector, allowed)


class _ApproximateLeg:
    """The dense leg over Chroma's index; the catalogue has the last word on what exists and is in scope."""

    def __init__(
        self,
        connection: Connection,
        index: VectorIndex,
        vector: Vectors,
        filters: Filters,
        scope_sql: str,
        parameters: Mapping[str, object],
    ) -> None:
        self._connection = connection
        self._index = index
        self._vector = vector
        self._collections = [collection_name("chunks", target) for target in visible(filters.target)] if filters.target else None
        self._is_narrow = bool(filters.kinds or filters.trust or filters.source or filters.valid_for)
        self._scope_sql = scope_sql
        self._parameters = parameters

    def nearest(self, top_k: int) -> list[tuple[int, float]]:
        """Return (chunk number, cosine similarity), nearest first, ties by number."""
        found = self._index.nearest(self._connection, self._collections, self._vector, top_k * (10 if self._is_narrow else 2))
        numbers = _numbers(self._connection, [item for item, _ in found], self._scope_sql, self._parameters)
        kept = [(numbers[item], similarity) for item, similarity in found if item in numbers]
        return sorted(kept, key=lambda entry: (-entry[1], entry[0]))[:top_k]

    def similarities(self, numbers: Sequence[int]) -> dict[int, float]:
        """Return the cosine similarity of chunks, from the vectors in the catalogue."""
        import numpy as np

        statement = text(
            "SELECT c.number, v.vector FROM chunks c JOIN vectors v ON v.vector_hash = c.vector_hash WHERE c.number IN :numbers"
        )
        rows = self._connection.execute(statement.bindparams(bindparam("numbers", expanding=True)), {"numbers": list(numbers)})
        return {int(row[0]): float(np.frombuffer(row[1], dtype="<f4") @ self._vector) for row in rows}


def _numbers(connection: Connection, chunk_ids: Sequence[str], scope_sql: str, parameters: Mapping[str, object]) -> dict[str, int]:
    """Return the numbers of those chunks that exist and are in scope: what the index holds beyond the catalogue is dropped here."""
    where = f" AND number IN ({scope_sql})" if scope_sql else ""
    statement = text(f"SELECT chunk_id, number FROM chunks WHERE chunk_id IN :ids{where}").bindparams(bindparam("ids", expanding=True))
    found: dict[str, int] = {}
    for begin in range(0, len(chunk_ids), 500):
        rows = connection.execute(statement, {"ids": list(chunk_ids[begin : begin + 500]), **parameters})
        found |= {str(row[0]): int(row[1]) for row in rows}
    return found


_ROWS = text(
    "SELECT c.number, c.chunk_id, c.section_path, c.text, c.context, c.line_start, c.line_end, c.content_hash, "
    "d.title, d.kind, d.targets, d.source, d.trust, d.front_matter FROM chunks c JOIN documents d ON d.document_id = c.document_id WHERE c.number IN :numbers"
).bindparams(bindparam("numbers", expanding=True))


def _near_duplicate(text: str, chosen: Mapping[str, Shingles]) -> str | None:
    """Return the key of a chosen text that says the same but for a few words, or None."""
    mine = Shingles(text)
    return next((key for key, theirs in chosen.items() if mine.repeats(theirs)), None)


def _hits(connection: Connection, candidates: Sequence[Candidate], top_k: int, explain: bool) -> list[Hit]:
    """Return the best hits, equal texts folded into the best of them."""
    import json

    chosen: dict[str, tuple[Candidate, Any]] = {}  # Any: SQLAlchemy rows
    also: dict[str, list[Source]] = {}
    shingles: dict[str, Shingles] = {}
    for begin in range(0, len(candidates), 4 * top_k):
        part = candidates[begin : begin + 4 * top_k]
        rows = {row.number: row for row in connection.execute(_ROWS, {"numbers": [candidate.number for candidate in part]})}
        for candidate in part:
            row = rows[candidate.number]
            same = row.content_hash if row.content_hash in chosen else _near_duplicate(row.text, shingles)
            if same is not None:
                also.setdefault(same, []).append(Source(row.source, row.line_start, row.line_end))
            elif len(chosen) < top_k:
                chosen[row.content_hash] = (candidate, row)
                shingles[row.content_hash] = Shingles(row.text)
        if len(chosen) >= top_k:
            break
    hits = []
    for rank, (content_hash, (candidate, row)) in enumerate(chosen.items(), start=1):
        front_matter = json.loads(row.front_matter)
        hits.append(
            Hit(
                rank=rank,
                score=candidate.score,
                chunk_id=row.chunk_id,
                document=row.title,
                section_path=tuple(json.loads(row.section_path)),
                kind=Kind(row.kind),
                targets=tuple(json.loads(row.targets)),
                source=Source(row.source, row.line_start, row.line_end),
                text=row.text,
                explain=candidate.parts if explain else {},
                context=row.context,
                trust=Trust(row.trust),
                also=tuple(also.get(content_hash, ())),
                pages=pages_of(front_matter, row.line_start, row.line_end),
                citation=citation_of(front_matter),
            )
        )
    return hits
