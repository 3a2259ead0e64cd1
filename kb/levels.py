"""The level above the leaves: how near the documents of candidates are to a query as a whole."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, Engine, bindparam, text

if TYPE_CHECKING:
    from kb.embedders.base import Vectors

LEADING_CHUNKS = 24
"""So many chunks from its beginning stand for a document."""
KEPT = 20_000
"""Documents whose vector is remembered, the latest used: about 30 MB at 384 dimensions."""

_OWNERS = text(
    "SELECT c.number, c.document_id, d.content_hash FROM chunks c JOIN documents d ON d.document_id = c.document_id WHERE c.number IN :numbers"
).bindparams(bindparam("numbers", expanding=True))
_LEADING = text(
    "SELECT c.document_id, v.vector FROM chunks c JOIN vectors v ON v.vector_hash = c.vector_hash "
    "WHERE c.document_id IN :documents AND c.position < :leading ORDER BY c.document_id, c.position"
).bindparams(bindparam("documents", expanding=True))

_Key = tuple[str, str, str]
_KNOWN: WeakKeyDictionary[Engine, OrderedDict[_Key, Vectors]] = WeakKeyDictionary()


def document_similarities(connection: Connection, numbers: Sequence[int], vector: Vectors) -> dict[int, float]:
    """Return, for each chunk, the cosine similarity of a query to the mean vector of the first chunks of the chunk's document.

    Args:
        connection: To the catalogue.
        numbers: Of chunks.
        vector: Unit vector of the query.
    """
    epoch = str(connection.execute(text("SELECT value FROM meta WHERE key = 'embedder_epoch'")).scalar_one_or_none() or "")
    key_of: dict[int, _Key] = {}
    for begin in range(0, len(numbers), 500):
        for row in connection.execute(_OWNERS, {"numbers": list(numbers[begin : begin + 500])}):
            key_of[int(row[0])] = (str(row[1]), str(row[2]), epoch)
    vectors = _vectors(connection, sorted(set(key_of.values())))
    scores = {key: float(mean.astype("float64") @ vector.astype("float64")) for key, mean in vectors.items()}
    return {number: scores[key] for number, key in key_of.items() if key in scores}


def remember(connection: Connection) -> int:
    """Compute the vectors of documents ahead of the first questions, as many as are kept; return how many."""
    epoch = str(connection.execute(text("SELECT value FROM meta WHERE key = 'embedder_epoch'")).scalar_one_or_none() or "")
    rows = connection.execute(text("SELECT document_id, content_hash FROM documents ORDER BY document_id LIMIT :limit"), {"limit": KEPT})
    keys = [(str(row[0]), str(row[1]), epoch) for row in rows]
    for begin in range(0, len(keys), 500):
        _vectors(connection, keys[begin : begin + 500])
    return len(keys)


def _vectors(connection: Connection, keys: Sequence[_Key]) -> dict[_Key, Vectors]:
    import numpy as np

    known = _KNOWN.setdefault(connection.engine, OrderedDict())
    found = {key: known[key] for key in keys if key in known}
    missing = {key[0]: key for key in keys if key not in found}
    names = sorted(missing)
    sums: dict[str, Vectors] = {}
    for begin in range(0, len(names), 500):
        for document_id, value in connection.execute(_LEADING, {"documents": names[begin : begin + 500], "leading": LEADING_CHUNKS}):
            row = np.frombuffer(value, dtype="<f4")
            sums[document_id] = sums[document_id] + row if document_id in sums else row.copy()
    for document_id, total in sums.items():
        mean = (total / max(float(np.linalg.norm(total)), 1e-9)).astype(np.float32)
        found[missing[document_id]] = known[missing[document_id]] = mean
    while len(known) > KEPT:
        known.popitem(last=False)
    return found
