"""The vector index: Chroma, embedded behind one locked writer or as a server by URL. It is derived: the catalogue holds every vector and can rebuild it.

Collections are partitioned by target and level (`chunks-nvidia`, `sections-cuda.sm_90`, …), because Chroma's filtered queries are linear in the size of a collection.
"""

from __future__ import annotations

import contextlib
import fcntl
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import ParseResult, urlparse

from kb.errors import StoreError

if TYPE_CHECKING:
    from kb.embedders.base import Vectors

WRITE_BATCH = 2000


class VectorStore(Protocol):
    """Named collections of unit vectors with string ids; every write is an upsert or a delete, so repeating one is harmless."""

    def upsert(self, collection: str, ids: Sequence[str], vectors: Vectors) -> None:
        """Insert or replace vectors."""

    def delete(self, collection: str, ids: Sequence[str]) -> None:
        """Remove vectors; unknown ids are ignored."""

    def nearest(self, collection: str, vector: Vectors, top_k: int) -> list[tuple[str, float]]:
        """Return (id, cosine similarity), nearest first; nothing for an unknown collection."""

    def ids(self, collection: str) -> set[str]:
        """Return all ids of a collection."""

    def collections(self) -> tuple[str, ...]:
        """Return the names of this base's collections."""

    def drop(self, collection: str) -> None:
        """Remove a whole collection; an unknown one is ignored."""


def collection_name(level: str, target: str) -> str:
    """Return the collection of a level (`chunks` or `sections`) and target."""
    return f"{level}-{target.replace(':', '.')}"


@contextlib.contextmanager
def locked(path: Path, timeout_s: float = 120.0) -> Iterator[None]:
    """Hold an exclusive lock between processes; the system releases it when the holder dies.

    Raises:
        StoreError: Another process held it for longer than `timeout_s`, or the lock's file cannot be written.
    """
    deadline = time.monotonic() + timeout_s
    try:
        stream = path.open("a")
    except OSError as err:
        raise StoreError(f"cannot write in {str(path.parent)!r}: {err.strerror}; check the disk and the permissions") from err
    with stream:
        while True:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as err:
                if time.monotonic() > deadline:
                    raise StoreError(
                        f"another process has been writing to {str(path.parent)!r} for {timeout_s:.0f} s; wait for it or stop it"
                    ) from err
                time.sleep(0.05)
        try:
            yield
        finally:
            fcntl.flock(stream, fcntl.LOCK_UN)


def server_address(text: str) -> ParseResult:
    """Return the parts of a server's address.

    Raises:
        StoreError: It is not one.
    """
    address = urlparse(text)
    if address.scheme not in ("http", "https") or not address.hostname:
        raise StoreError(f"not the address of a Chroma server: {text!r}; write http://HOST:PORT")
    return address


class ChromaStore:
    """Chroma, embedded in a folder or at `http(s)://host:port`.

    Args:
        place: Folder (a `Path`) or address (a `str`).
        base_id: Put before collection names, so that bases can share a server.

    Raises:
        StoreError: chromadb is not installed, or no server answers at the address.
    """

    def __init__(self, place: str | Path, base_id: str) -> None:
        try:
            import chromadb
            from chromadb.config import Settings
        except ImportError as err:
            raise StoreError("the vector index needs chromadb; run: pip install 'chromadb>=1.5,<2'") from err
        settings = Settings(anonymized_telemetry=False)
        self._prefix = f"kb{base_id}-"
        self._client: Any  # Any: chromadb's clients share no public base type
        if isinstance(place, str):
            address = server_address(place)
            try:
                self._client = chromadb.HttpClient(
                    host=address.hostname or "", port=address.port or 8000, ssl=address.scheme == "https", settings=settings
                )
            except Exception as err:  # the outside: Chroma's errors have no common root across its backends
                raise StoreError(
                    f"no Chroma server answers at {place}: {err}; start one with `chroma run`, or correct the address"
                ) from err
        else:
            Path(place).mkdir(parents=True, exist_ok=True)
            self._client = chromadb.PersistentClient(path=str(place), settings=settings)
        self._open: dict[str, Any] = {}  # Any: chromadb.Collection

    def close(self) -> None:
        """Forget the client, so that the next one sees what other processes wrote."""
        self._open.clear()
        with contextlib.suppress(Exception):  # the outside: chromadb's private cache differs between its versions
            self._client.clear_system_cache()

    def upsert(self, collection: str, ids: Sequence[str], vectors: Vectors) -> None:
        """Insert or replace vectors."""
        handle = self._collection(collection, create=True)
        for begin in range(0, len(ids), WRITE_BATCH):
            handle.upsert(ids=list(ids[begin : begin + WRITE_BATCH]), embeddings=vectors[begin : begin + WRITE_BATCH])

    def delete(self, collection: str, ids: Sequence[str]) -> None:
        """Remove vectors; unknown ids are ignored."""
        handle = self._collection(collection)
        if handle is None:
            return
        for begin in range(0, len(ids), WRITE_BATCH):
            handle.delete(ids=list(ids[begin : begin + WRITE_BATCH]))

    def nearest(self, collection: str, vector: Vectors, top_k: int) -> list[tuple[str, float]]:
        """Return (id, cosine similarity), nearest first; nothing for an unknown collection."""
        handle = self._collection(collection)
        if handle is None:
            return []
        found = handle.query(query_embeddings=[vector], n_results=top_k, include=["distances"])
        return [(str(item), 1.0 - float(distance)) for item, distance in zip(found["ids"][0], found["distances"][0], strict=True)]

    def ids(self, collection: str) -> set[str]:
        """Return all ids of a collection."""
        handle = self._collection(collection)
        return set() if handle is None else set(handle.get(include=[])["ids"])

    def collections(self) -> tuple[str, ...]:
        """Return the names of this base's collections."""
        names = [str(item.name) for item in self._client.list_collections()]
        return tuple(sorted(name.removeprefix(self._prefix) for name in names if name.startswith(self._prefix)))

    def drop(self, collection: str) -> None:
        """Remove a whole collection; an unknown one is ignored."""
        self._open.pop(collection, None)
        if collection in self.collections():
            self._client.delete_collection(self._prefix + collection)

    def _collection(self, name: str, create: bool = False) -> Any:  # Any: chromadb.Collection or None
        from chromadb.errors import NotFoundError

        if name not in self._open:
            full = self._prefix + name
            if create:
                configuration = {"hnsw": {"space": "cosine", "ef_search": 200, "ef_construction": 200}}
                self._open[name] = self._client.get_or_create_collection(full, embedding_function=None, configuration=configuration)
            else:
                try:
                    self._open[name] = self._client.get_collection(full, embedding_function=None)
                except NotFoundError:
                    return None
        return self._open[name]
