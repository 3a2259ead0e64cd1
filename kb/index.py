"""Keeps the vector index (Chroma) in step with the catalogue.

Every document transaction leaves its vector writes in the catalogue's outbox; `flush` carries them out under the writer's lock and then strikes them off.
All of them may be repeated, so a crash at any point loses nothing: the next flush does them again.

Each embedder the base has had counts as an epoch with collections of its own, so vectors of two embedders never meet; `kb/reembedding.py` fills those of the
next epoch with `prepare` while queries go on with the current ones.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, bindparam, delete, func, insert, select, text

from kb.errors import StoreError
from kb.meta import settings
from kb.schema import outbox
from kb.vectors import ChromaStore, VectorStore, locked, server_address

if TYPE_CHECKING:
    from kb.catalogue import Catalogue
    from kb.embedders.base import Vectors

log = logging.getLogger(__name__)

FLUSH_ROWS = 4000
FIRST_EPOCH = "0"


def embedder_epoch(connection: Connection) -> str:
    """Return which of its embedders a base is at: another value means vectors of another embedder."""
    return settings(connection).get("embedder_epoch") or FIRST_EPOCH


class VectorIndex:
    """The derived index of one base.

    Args:
        catalogue: The truth.
        folder: Where the lock and the embedded Chroma live.
        address: Of a Chroma server; None: embedded.
    """

    def __init__(self, catalogue: Catalogue, folder: Path, address: str | None) -> None:
        self._catalogue = catalogue
        self._folder = folder
        if address is not None:
            server_address(address)
        self._address = address
        self._store: VectorStore | None = None
        self._seen_generation = -1
        self._guard = threading.RLock()

    @property
    def is_server(self) -> bool:
        """Whether a Chroma server holds the vectors."""
        return self._address is not None

    def close(self) -> None:
        """Release the client."""
        with self._guard:
            if isinstance(self._store, ChromaStore):
                self._store.close()
            self._store = None

    def pending(self) -> int:
        """Return the number of vector writes that wait."""
        with self._catalogue.read() as connection:
            return int(connection.execute(select(func.count()).select_from(outbox)).scalar_one())

    def flush(self) -> int:
        """Carry out the waiting writes; return how many. Without chromadb they stay, and search scores the catalogue's vectors exactly."""
        if not self.pending():
            return 0
        done = 0
        with self._guard, locked(self._folder / "writer.lock"):
            try:
                store = self._fresh_store()
            except StoreError as err:
                log.warning("vector index not updated: %s", err)
                return 0
            while True:
                with self._catalogue.read() as connection:
                    rows = connection.execute(select(outbox).order_by(outbox.c.sequence).limit(FLUSH_ROWS)).all()
                    if not rows:
                        break
                    last = {(row.collection, row.item_id): row.action for row in rows}
                    wanted = sorted({item for (_, item), action in last.items() if action == "upsert"})
                    found = _vectors(connection, wanted)
                try:
                    self._apply(store, last, found)
                except Exception as err:  # the outside: Chroma's errors have no common root across its backends
                    raise StoreError(
                        f"the vector index cannot be written: {err}; the documents are safe, run `kb check --repair` when it can"
                    ) from err
                with self._catalogue.write() as connection:
                    connection.execute(delete(outbox).where(outbox.c.sequence <= rows[-1].sequence))
                done += len(rows)
        return done

    def queue_everything(self, connection: Connection) -> None:
        """Leave a write of every entry in the outbox."""
        rows = [
            {"action": "upsert", "collection": name, "item_id": item} for name, items in self._expected().items() for item in sorted(items)
        ]
        if rows:
            connection.execute(insert(outbox), rows)

    def nearest(self, connection: Connection, collections: Sequence[str] | None, vector: Vectors, top_k: int) -> list[tuple[str, float]]:
        """Return the nearest ids over some collections (None: every collection of chunks), each once, nearest first."""
        generation = self._catalogue.generation(connection)
        with self._guard:
            store = self._store if generation == self._seen_generation else None
            if store is None:
                store = self._fresh_store()
                self._seen_generation = generation
            names = [name for name in store.collections() if name.startswith("chunks-")] if collections is None else list(collections)
            best: dict[str, float] = {}
            for name in names:
                try:
                    found = store.nearest(name, vector, top_k)
                except Exception as err:  # the outside: Chroma's errors have no common root across its backends
                    raise StoreError(f"the vector index cannot be read: {err}; run `kb check --repair`") from err
                for item, similarity in found:
                    best[item] = max(similarity, best.get(item, -1.0))
        return sorted(best.items(), key=lambda entry: (-entry[1], entry[0]))[:top_k]

    def differences(self) -> tuple[list[str], int]:
        """Return what the vector index holds otherwise than the catalogue says, as sentences, and the number of entries concerned."""
        with self._guard, locked(self._folder / "writer.lock"):
            store = self._fresh_store()
            expected = self._expected()
            found = []
            total = 0
            for name in sorted(set(store.collections()) | set(expected)):
                there, wanted = store.ids(name), expected.get(name, set())
                missing, extra = len(wanted - there), len(there - wanted)
                total += missing + extra
                if missing or extra:
                    found.append(f"vector collection {name!r}: {missing} entries missing, {extra} not in the catalogue")
            return found, total

    def rebuild(self) -> None:
        """Bring every collection to what the catalogue says."""
        with self._writing(None) as store:
            for name, ids in self._missing(store):
                self._fill(store, name, ids, "vectors")
            with self._catalogue.write() as connection:
                connection.execute(delete(outbox))

    def prepare(self, epoch: str) -> None:
        """Bring the collections of another epoch to what the catalogue says, with the vectors of `next_vectors`; searches do not see them.

        A chunk's id stands for its text, so entries for chunks that are there already are kept; those for sections are written anew. The lock is let go
        between batches, so that ingestion and queries go on.
        """
        with self._writing(epoch) as store:
            work = list(self._missing(store, keep="chunks-"))
        for name, ids in work:
            with self._writing(epoch) as store:
                self._fill(store, name, ids, "next_vectors")

    def drop(self, epoch: str) -> None:
        """Remove every collection of an epoch."""
        with self._writing(epoch) as store:
            for name in store.collections():
                store.drop(name)

    @contextlib.contextmanager
    def _writing(self, epoch: str | None) -> Iterator[VectorStore]:
        """Yield the store of an epoch (None: the current one), alone."""
        with self._guard, locked(self._folder / "writer.lock"):
            try:
                yield self._fresh_store(epoch)
            finally:
                if epoch is not None:
                    self.close()  # what is kept open is the current epoch's

    def _missing(self, store: VectorStore, keep: str | None = None) -> Iterator[tuple[str, list[str]]]:
        """Remove what the catalogue does not have; yield the ids to write, in batches: all, but in collections that begin with `keep` only missing ones."""
        expected = self._expected()
        for name in sorted(set(store.collections()) | set(expected)):
            wanted = expected.get(name, set())
            if not wanted:
                store.drop(name)
                continue
            there = store.ids(name)
            if there - wanted:
                store.delete(name, sorted(there - wanted))
            ids = sorted(wanted - there if keep and name.startswith(keep) else wanted)
            for begin in range(0, len(ids), FLUSH_ROWS):
                yield name, ids[begin : begin + FLUSH_ROWS]

    def _fill(self, store: VectorStore, name: str, ids: Sequence[str], table: str) -> None:
        with self._catalogue.read() as connection:
            found = _vectors(connection, ids, table)
        self._apply(store, {(name, item): "upsert" for item in ids}, found)

    def _expected(self) -> dict[str, set[str]]:
        statement = text(
            "SELECT 'chunks-' || replace(t.target, ':', '.'), c.chunk_id FROM chunks c JOIN document_targets t ON t.document_id = c.document_id "
            "UNION ALL SELECT 'sections-' || replace(t.target, ':', '.'), s.section_id FROM sections s JOIN document_targets t ON t.document_id = s.document_id"
        )
        expected: dict[str, set[str]] = {}
        with self._catalogue.read() as connection:
            for name, item in connection.execute(statement):
                expected.setdefault(str(name), set()).add(str(item))
            empty = set(connection.execute(text(_EMPTY_SECTIONS)).scalars())
        return {name: items - empty for name, items in expected.items() if items - empty}

    def _fresh_store(self, epoch: str | None = None) -> VectorStore:
        """Return a store that sees what other processes wrote; None: of the current epoch."""
        if isinstance(self._store, ChromaStore):
            self._store.close()
        with self._catalogue.read() as connection:
            base_id = self._catalogue.get_meta(connection, "base_id") or ""
            chosen = epoch or embedder_epoch(connection)
        self._store = ChromaStore(self._address or self._folder / "vectors", base_id if chosen == FIRST_EPOCH else f"{base_id}e{chosen}")
        return self._store

    @staticmethod
    def _apply(store: VectorStore, actions: dict[tuple[str, str], str], found: dict[str, Vectors]) -> None:
        import numpy as np

        for name in sorted({collection for collection, _ in actions}):
            mine = {item: action for (collection, item), action in actions.items() if collection == name}
            kept = [item for item, action in mine.items() if action == "upsert" and item in found]
            gone = sorted(mine.keys() - set(kept))  # deleted, or without a vector by now: a section that lost its last chunk
            if gone:
                store.delete(name, gone)
            if kept:
                store.upsert(name, kept, np.stack([found[item] for item in kept]))


_EMPTY_SECTIONS = """
WITH RECURSIVE full_sections(id) AS (
  SELECT DISTINCT section_id FROM chunks
  UNION SELECT s.parent_id FROM sections s JOIN full_sections f ON s.section_id = f.id WHERE s.parent_id IS NOT NULL
) SELECT section_id FROM sections WHERE section_id NOT IN (SELECT id FROM full_sections)
"""


def _vectors(connection: Connection, ids: Iterable[str], table: str = "vectors") -> dict[str, Vectors]:
    """Return the vectors of chunks and sections by id, from `vectors` or `next_vectors`; a section's is the unit mean of the chunks at and below it."""
    import numpy as np

    wanted = list(ids)
    found: dict[str, Vectors] = {}
    for begin in range(0, len(wanted), 400):
        part = wanted[begin : begin + 400]
        direct = text(f"SELECT c.chunk_id, v.vector FROM chunks c JOIN {table} v ON v.vector_hash = c.vector_hash WHERE c.chunk_id IN :ids")
        for item, value in connection.execute(direct.bindparams(bindparam("ids", expanding=True)), {"ids": part}):
            found[str(item)] = np.frombuffer(value, dtype="<f4")
        below = text(
            "WITH RECURSIVE sub(root, id) AS (SELECT section_id, section_id FROM sections WHERE section_id IN :ids "
            "UNION ALL SELECT sub.root, s.section_id FROM sections s JOIN sub ON s.parent_id = sub.id) "
            f"SELECT sub.root, v.vector FROM sub JOIN chunks c ON c.section_id = sub.id JOIN {table} v ON v.vector_hash = c.vector_hash ORDER BY c.number"
        )
        sums: dict[str, Vectors] = {}
        for item, value in connection.execute(below.bindparams(bindparam("ids", expanding=True)), {"ids": part}):
            vector = np.frombuffer(value, dtype="<f4")
            sums[str(item)] = sums[str(item)] + vector if str(item) in sums else vector
        for item, total in sums.items():
            length = float(np.linalg.norm(total))
            found[item] = (total / length if length > 0 else total).astype(np.float32)
    return found
