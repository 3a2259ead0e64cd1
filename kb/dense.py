"""The dense leg: exact cosine scores over the vectors in the catalogue while they fit in memory comfortably, Chroma's approximate index beyond that.

Exact scoring needs no Chroma import (a cold query answers at once), sees every committed write of every process, and makes filters free.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import Connection, text

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from kb.embedders.base import Vectors

EXACT_LIMIT = 60_000
"""Up to so many chunks are scored exactly: about 90 MB at 384 dimensions, 10 ms a query on one core."""


@dataclass(frozen=True)
class Snapshot:
    """The vectors of all chunks at one generation of the catalogue."""

    generation: int
    numbers: NDArray[np.int64]
    """(chunks,), ascending."""
    sections: NDArray[np.int64]
    """(chunks,): dense index of each chunk's section."""
    documents: NDArray[np.int64]
    """(chunks,): dense index of each chunk's document."""
    matrix: Vectors
    """(chunks, dimension)."""

    def positions(self, wanted: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the rows of chunk numbers that are in the snapshot."""
        import numpy as np

        found = np.searchsorted(self.numbers, wanted)
        found = np.minimum(found, max(0, len(self.numbers) - 1))
        return found[self.numbers[found] == wanted] if len(self.numbers) else found[:0]


def load_snapshot(connection: Connection, generation: int, dimension: int) -> Snapshot:
    """Read all vectors of the catalogue."""
    import numpy as np

    rows = connection.execute(
        text(
            "SELECT c.number, c.section_id, c.document_id, v.vector FROM chunks c JOIN vectors v ON v.vector_hash = c.vector_hash ORDER BY c.number"
        )
    ).all()
    section_index: dict[str, int] = {}
    document_index: dict[str, int] = {}
    sections = np.fromiter((section_index.setdefault(row[1], len(section_index)) for row in rows), dtype=np.int64, count=len(rows))
    documents = np.fromiter((document_index.setdefault(row[2], len(document_index)) for row in rows), dtype=np.int64, count=len(rows))
    numbers = np.fromiter((row[0] for row in rows), dtype=np.int64, count=len(rows))
    matrix = np.frombuffer(b"".join(row[3] for row in rows), dtype="<f4").reshape(len(rows), dimension)
    return Snapshot(generation, numbers, sections, documents, matrix)
