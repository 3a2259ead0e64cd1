"""The dense leg: cosine scores over the vectors in the catalogue, exact while a scan is quick, beyond that by a coarse scan whose best are scored exactly.

A scan sees every committed write of every process, makes filters free and needs no Chroma import (a cold query answers at once). The coarse scan compares
one bit a dimension (the signs), 32 times smaller than the vectors, which stay in a mapped file. Scores come from one row at a time in double precision, so
they do not depend on how the rows were grouped or which process computed them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, text

from kb.arrays import places_of
from kb.derived import Derived, State
from kb.meta import settings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from kb.embedders.base import Vectors

EXACT_ROWS = 200_000
"""Up to so many chunks in scope every vector is compared: about 300 MB at 384 dimensions."""
COARSE_SHARE = 20
"""Of a coarse scan, this many times the wanted hits are scored exactly, at least `COARSE_LEAST`."""
COARSE_LEAST = 4000
SPARE = 50
"""Rows beyond the wanted ones that are scored in double precision, so that rounding in the scan loses none."""
GATHER_SHARE = 0.1
"""With fewer rows than this share in scope, only they are read."""
READ_ROWS = 20_000
BLOCK_ROWS = 65_536


@dataclass(frozen=True)
class VectorPart:
    """Vectors of a run of chunks."""

    numbers: NDArray[np.int64]
    """(chunks,), ascending."""
    matrix: Vectors
    """(chunks, dimension), float32, unit rows."""
    signs: NDArray[np.uint64]
    """(chunks, dimension / 64): bit set where the vector is positive, padded with zeros."""


class Snapshots:
    """Keeps the vectors of one catalogue in memory, or in a mapped file where they are many.

    Args:
        folder: Where large ones are kept between processes; None: nowhere.
    """

    def __init__(self, folder: Path | None) -> None:
        self._derived = Derived(folder / "matrix" if folder else None, _read_part, _merged, _made)

    def at(self, connection: Connection) -> State[VectorPart]:
        """Return the vectors of the state that the connection sees."""
        values = settings(connection)
        stamp = "-".join(values.get(key, "") for key in ("base_id", "embedder_epoch", "embedder_hash", "embedder_dimension"))
        return self._derived.at(connection, int(values.get("generation", 0)), stamp)


class ScanLeg:
    """Compares a query with the vectors of every chunk in scope.

    Args:
        state: The vectors.
        vector: Unit vector of the query.
        allowed: Chunk numbers in scope, ascending; None for all.
        exact_rows: Up to so many rows in scope are compared exactly.
    """

    def __init__(self, state: State[VectorPart], vector: Vectors, allowed: NDArray[np.int64] | None, exact_rows: int = EXACT_ROWS) -> None:
        self._state = state
        self._vector = vector
        self._allowed = allowed
        self._is_exact = (state.num_chunks if allowed is None else len(allowed)) <= exact_rows

    def nearest(self, top_k: int) -> list[tuple[int, float]]:
        """Return (chunk number, cosine similarity), nearest first, ties by number."""
        import numpy as np

        best: list[tuple[int, float]] = []
        for part, alive in zip(self._state.parts, self._state.alive, strict=True):
            rows = self._rows(part, alive)
            if rows is not None and not len(rows):
                continue
            chosen = self._closest(part, rows, top_k + SPARE if self._is_exact else max(COARSE_LEAST, COARSE_SHARE * top_k))
            if not self._is_exact and len(chosen) > top_k + SPARE:
                scores = part.matrix[chosen] @ self._vector
                chosen = chosen[np.argpartition(-scores, top_k + SPARE)[: top_k + SPARE]]
            best += zip(part.numbers[chosen].tolist(), _scores(part.matrix[chosen], self._vector), strict=True)
        best.sort(key=lambda entry: (-entry[1], entry[0]))
        return best[:top_k]

    def similarities(self, numbers: Sequence[int]) -> dict[int, float]:
        """Return the cosine similarity of chunks in scope."""
        import numpy as np

        wanted = np.unique(np.asarray(numbers, dtype=np.int64))
        if self._allowed is not None:
            wanted = wanted[np.isin(wanted, self._allowed)]
        found: dict[int, float] = {}
        for part, alive in zip(self._state.parts, self._state.alive, strict=True):
            rows = places_of(part.numbers, wanted)
            if alive is not None:
                rows = rows[alive[rows]]
            if len(rows):
                found |= zip(part.numbers[rows].tolist(), _scores(part.matrix[rows], self._vector), strict=True)
        return found

    def _rows(self, part: VectorPart, alive: NDArray[np.bool_] | None) -> NDArray[np.int64] | None:
        """Return the rows in scope; None: all."""
        import numpy as np

        if self._allowed is None:
            return None if alive is None else np.flatnonzero(alive)
        rows = places_of(part.numbers, self._allowed)
        return rows if alive is None else rows[alive[rows]]

    def _closest(self, part: VectorPart, rows: NDArray[np.int64] | None, how_many: int) -> NDArray[np.int64]:
        """Return the rows whose vectors are closest, in no order."""
        import numpy as np

        total = len(part.numbers)
        if (total if rows is None else len(rows)) <= how_many:
            return np.arange(total) if rows is None else rows
        source: NDArray[Any] = part.matrix if self._is_exact else part.signs  # Any: dtypes
        measure = self._products if self._is_exact else self._agreements
        if rows is not None and len(rows) < GATHER_SHARE * total:
            closeness = measure(source[rows])
            return rows[np.argpartition(-closeness, how_many)[:how_many]]
        closeness = measure(source)
        if rows is not None:
            closeness = closeness[rows]
        chosen: NDArray[np.int64] = np.argpartition(-closeness, how_many)[:how_many]
        return chosen if rows is None else rows[chosen]

    def _products(self, matrix: NDArray[Any]) -> NDArray[Any]:  # Any: dtypes
        return matrix @ self._vector

    def _agreements(self, signs: NDArray[Any]) -> NDArray[Any]:  # Any: dtypes
        """Return minus the number of bits in which rows differ from the query."""
        import numpy as np

        query = _signs(self._vector[None, :])[0]
        found = np.empty(len(signs), dtype=np.int16)
        for begin in range(0, len(signs), BLOCK_ROWS):
            block = np.bitwise_count(signs[begin : begin + BLOCK_ROWS] ^ query)
            total = block[:, 0].astype(np.int16)
            for column in range(1, block.shape[1]):  # half the time of a sum over so short an axis
                total += block[:, column]
            found[begin : begin + BLOCK_ROWS] = total
        return -found


def _scores(rows: Vectors, vector: Vectors) -> list[float]:
    """Return cosine similarities, each row summed by itself in double precision."""
    import numpy as np

    products = rows.astype(np.float64) * vector.astype(np.float64)
    found: list[float] = products.sum(axis=1).tolist()
    return found


def _signs(matrix: Vectors) -> NDArray[np.uint64]:
    import numpy as np

    bits = np.packbits(matrix > 0, axis=1)
    return np.ascontiguousarray(np.pad(bits, ((0, 0), (0, -bits.shape[1] % 8)))).view(np.uint64)


def _read_part(connection: Connection, after: int) -> VectorPart:
    import numpy as np

    many = int(connection.execute(text("SELECT count(*) FROM chunks WHERE number > :after"), {"after": after}).scalar_one())
    statement = text(
        "SELECT c.number, v.vector FROM chunks c JOIN vectors v ON v.vector_hash = c.vector_hash WHERE c.number > :after "
        "ORDER BY c.number LIMIT :limit"
    )
    numbers = np.empty(many, dtype=np.int64)
    matrix: NDArray[np.float32] | None = None
    filled = 0
    while many:
        rows = connection.execute(statement, {"after": after, "limit": READ_ROWS}).all()
        if not rows:
            break
        after = int(rows[-1][0])
        block = np.frombuffer(b"".join(row[1] for row in rows), dtype="<f4").reshape(len(rows), -1)
        if matrix is None:
            matrix = np.empty((many, block.shape[1]), dtype=np.float32)
        matrix[filled : filled + len(rows)] = block
        numbers[filled : filled + len(rows)] = np.fromiter((row[0] for row in rows), dtype=np.int64, count=len(rows))
        filled += len(rows)
    if matrix is None:
        return VectorPart(numbers[:0], np.zeros((0, 0), dtype=np.float32), np.zeros((0, 0), dtype=np.uint64))
    return _with_signs(numbers[:filled], matrix[:filled])


def _merged(parts: Sequence[VectorPart], alive: Sequence[NDArray[np.bool_] | None]) -> VectorPart:
    import numpy as np

    numbers = [part.numbers if there is None else part.numbers[there] for part, there in zip(parts, alive, strict=True)]
    matrices = [part.matrix if there is None else part.matrix[there] for part, there in zip(parts, alive, strict=True)]
    return _with_signs(np.concatenate(numbers), np.concatenate(matrices))


def _with_signs(numbers: NDArray[np.int64], matrix: Vectors) -> VectorPart:
    import numpy as np

    blocks = [_signs(matrix[begin : begin + BLOCK_ROWS]) for begin in range(0, len(matrix), BLOCK_ROWS)]
    return VectorPart(numbers, matrix, np.concatenate(blocks) if blocks else np.zeros((0, 0), dtype=np.uint64))


def _made(arrays: Mapping[str, NDArray[Any]]) -> VectorPart:  # Any: dtypes
    return VectorPart(arrays["numbers"], arrays["matrix"], arrays["signs"])
