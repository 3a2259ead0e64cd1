"""Changing the embedder of a base: every text is embedded anew beside the vectors in use, then the two change places in one transaction.

Until then queries and ingestion go on with the former embedder. What is done is committed batch by batch, so a process killed at any point loses at most
one batch; running the change again goes on. Vectors of two embedders are never in one table or collection. Chunks stay as they are, except that
those too long for the new embedder are cut anew at the end.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import Connection, delete, func, select, text

from kb.catalogue import Catalogue, row_embedded_text
from kb.chunking import PATH_TOKENS
from kb.embedders.base import EmbedderIdentity, differences
from kb.errors import StoreError
from kb.index import embedder_epoch
from kb.schema import chunks, meta, next_vectors, outbox
from kb.vectors import locked

if TYPE_CHECKING:
    from kb.embedders.base import Embedder
    from kb.store import KnowledgeBase

log = logging.getLogger(__name__)

BATCH_TEXTS = 256
ROUNDS = 5
"""After so many rounds in which documents changed meanwhile, the vector index of the rest is left to the next flush."""
LOCK_TIMEOUT_S = 5.0
_FIELDS = ("spec", "name", "hash", "dimension", "prefix", "epoch")


@dataclass(frozen=True)
class EmbedderChange:
    """What a change of the embedder did."""

    spec: str
    name: str
    dimension: int
    embedded: int
    """Texts embedded by this call; a change that was interrupted before embedded the others."""
    switched: bool
    """False if it was stopped before the end; calling it again goes on."""
    recut: int = 0
    """Documents cut anew because chunks were too long for the new embedder."""


@dataclass(frozen=True)
class ChangeState:
    """A change of the embedder that has begun and is not done."""

    spec: str
    name: str
    done: int
    """Texts embedded so far."""
    total: int


def change_embedder(
    base: KnowledgeBase, embedder: Embedder, spec: str, progress: Callable[[int, int], None] | None, stop: threading.Event | None
) -> EmbedderChange:
    """See `KnowledgeBase.change_embedder`."""
    identity = embedder.identity
    with locked(base.home / "kb" / "reembedding.lock", LOCK_TIMEOUT_S):
        if _is_current(base, identity):
            _abandon(base)
            _drop_former(base)
            base.index.flush()
            return EmbedderChange(spec, identity.name, identity.dimension, 0, True, _recut(base))
        epoch = _begin(base, identity, spec)
        embedded = 0
        for round_number in range(ROUNDS + 1):
            done = _embed_missing(base, embedder, progress, stop)
            embedded += done
            if stop is not None and stop.is_set():
                return EmbedderChange(spec, identity.name, identity.dimension, embedded, False)
            generation = _generation(base)
            has_index = _prepare_index(base, epoch)
            if _switch(base, epoch, generation if has_index else None, is_last=round_number == ROUNDS):
                break
        else:
            raise StoreError("documents keep changing while the embedder is changed; run the same command again to go on")
        _drop_former(base)
        base.index.flush()
        return EmbedderChange(spec, identity.name, identity.dimension, embedded, True, _recut(base))


def change_state(connection: Connection) -> ChangeState | None:
    """Return the change under way, or None."""
    recorded = _recorded(connection, "next_embedder")
    if recorded is None:
        return None
    total = connection.execute(select(func.count(func.distinct(chunks.c.vector_hash)))).scalar_one()
    left = connection.execute(text(f"SELECT count(DISTINCT c.vector_hash) FROM chunks c WHERE {_MISSING}")).scalar_one()
    return ChangeState(recorded["spec"], recorded["name"], int(total) - int(left), int(total))


def leftovers(connection: Connection) -> list[str]:
    """Return what a change that was killed while it cleaned up left behind, as sentences; `discard_leftovers` removes it."""
    found = []
    if _recorded(connection, "next_embedder") is None:
        number = int(connection.execute(select(func.count()).select_from(next_vectors)).scalar_one())
        if number:
            found.append(f"{number} vectors of a former embedder are left over")
    if Catalogue.get_meta(connection, "former_epoch"):
        found.append("the vector collections of a former embedder are left over")
    return found


def discard_leftovers(base: KnowledgeBase) -> bool:
    """Remove what a killed change left behind; return whether there was something. A change that is still alive cleans up itself."""
    with base.catalogue.read() as connection:
        if not leftovers(connection):
            return False
    try:
        with locked(base.home / "kb" / "reembedding.lock", 0.0):
            _drop_former(base)
    except StoreError as err:
        log.info("leftovers of a former embedder not removed: %s", err)
        return False
    return True


_MISSING = "NOT EXISTS (SELECT 1 FROM next_vectors n WHERE n.vector_hash = c.vector_hash)"


def _recorded(connection: Connection, prefix: str) -> Mapping[str, str] | None:
    found = {key: Catalogue.get_meta(connection, f"{prefix}_{key}") for key in _FIELDS}
    return {key: value or "" for key, value in found.items()} if found["name"] is not None else None


def _values(identity: EmbedderIdentity) -> dict[str, str]:
    return {"name": identity.name, "hash": identity.weight_hash, "dimension": str(identity.dimension), "prefix": identity.prefix}


def _is_current(base: KnowledgeBase, identity: EmbedderIdentity) -> bool:
    with base.catalogue.read() as connection:
        recorded = _recorded(connection, "embedder")
    return recorded is not None and not differences(recorded, identity)


def _generation(base: KnowledgeBase) -> int:
    with base.catalogue.read() as connection:
        return Catalogue.generation(connection)


def _begin(base: KnowledgeBase, identity: EmbedderIdentity, spec: str) -> str:
    """Record the change, or take up the same one that was interrupted; return its epoch."""
    with base.catalogue.write() as connection:
        recorded = _recorded(connection, "next_embedder")
        if recorded is not None and not differences(recorded, identity):
            return recorded["epoch"]
    if recorded is not None:
        _abandon(base)
    with base.catalogue.write() as connection:
        connection.execute(delete(next_vectors))
        epoch = str(int(Catalogue.get_meta(connection, "last_epoch") or embedder_epoch(connection)) + 1)
        Catalogue.set_meta(connection, "last_epoch", epoch)
        for key, value in {**_values(identity), "spec": spec, "epoch": epoch}.items():
            Catalogue.set_meta(connection, f"next_embedder_{key}", value)
    return epoch


def _abandon(base: KnowledgeBase) -> None:
    """Forget a change that is not wanted any more."""
    with base.catalogue.write() as connection:
        recorded = _recorded(connection, "next_embedder")
        if recorded is None:
            return
        _forget(connection)
        connection.execute(delete(next_vectors))
        Catalogue.set_meta(connection, "former_epoch", recorded["epoch"])
    _drop_former(base)


def _forget(connection: Connection) -> None:
    connection.execute(delete(meta).where(meta.c.key.in_([f"next_embedder_{key}" for key in _FIELDS])))


def _embed_missing(
    base: KnowledgeBase, embedder: Embedder, progress: Callable[[int, int], None] | None, stop: threading.Event | None
) -> int:
    done = 0
    while stop is None or not stop.is_set():
        with base.catalogue.read() as connection:
            keys = connection.execute(
                text(f"SELECT DISTINCT c.vector_hash FROM chunks c WHERE {_MISSING} ORDER BY c.vector_hash LIMIT {BATCH_TEXTS}")
            ).scalars()
            wanted = [str(key) for key in keys]
            rows = connection.execute(select(chunks).where(chunks.c.vector_hash.in_(wanted))).mappings().all()
        if not wanted:
            break
        texts = {str(row["vector_hash"]): row_embedded_text(row) for row in rows}
        vectors_by_key = base.embed_texts(texts, with_embedder=embedder)
        with base.catalogue.write() as connection:
            connection.execute(
                text("INSERT INTO next_vectors(vector_hash, vector) VALUES (:k, :v) ON CONFLICT DO NOTHING"),
                [{"k": key, "v": vector} for key, vector in vectors_by_key.items()],
            )
            state = change_state(connection) if progress is not None else None
        done += len(vectors_by_key)
        if progress is not None and state is not None:
            progress(state.done, state.total)
    return done


def _prepare_index(base: KnowledgeBase, epoch: str) -> bool:
    try:
        base.index.prepare(epoch)
    except StoreError as err:
        log.warning("vector index not prepared: %s", err)
        return False
    return True


def _switch(base: KnowledgeBase, epoch: str, generation: int | None, is_last: bool) -> bool:
    """Let the next vectors take the place of the current ones, all in one transaction; return False if documents changed meanwhile.

    Args:
        generation: Of the catalogue that the prepared collections stand for; None: they are not prepared, and a flush will fill them.
        is_last: Switch although documents changed, if no vector is missing; a flush then fills the collections.
    """
    with locked(base.home / "kb" / "writer.lock"), base.catalogue.write() as connection:
        if connection.execute(text(f"SELECT 1 FROM chunks c WHERE {_MISSING} LIMIT 1")).first() is not None:
            return False
        is_prepared = generation is not None and generation == Catalogue.generation(connection)
        if not is_prepared and generation is not None and not is_last:
            return False
        recorded = _recorded(connection, "next_embedder")
        if recorded is None or recorded["epoch"] != epoch:
            raise StoreError("another process has taken this change of the embedder over; `kb embedder` shows its state")
        Catalogue.set_meta(connection, "former_epoch", embedder_epoch(connection))
        for statement in (
            "ALTER TABLE vectors RENAME TO former_vectors",
            "ALTER TABLE next_vectors RENAME TO vectors",
            "ALTER TABLE former_vectors RENAME TO next_vectors",
        ):
            connection.execute(text(statement))
        for key, value in recorded.items():
            Catalogue.set_meta(connection, f"embedder_{key}", value)
        _forget(connection)
        connection.execute(delete(outbox))
        if not is_prepared:
            base.index.queue_everything(connection)
        Catalogue.touch(connection)
    return True


def _drop_former(base: KnowledgeBase) -> None:
    """Remove the vectors and collections of the former embedder; a kill in between leaves them for the next call or `kb check --repair`."""
    with base.catalogue.write() as connection:
        former = Catalogue.get_meta(connection, "former_epoch")
        if _recorded(connection, "next_embedder") is None:
            connection.execute(delete(next_vectors))
        connection.execute(text("DELETE FROM vectors WHERE vector_hash NOT IN (SELECT vector_hash FROM chunks)"))
    if former:
        try:
            base.index.drop(former)
        except StoreError as err:
            log.warning("vector collections of the former embedder not removed: %s", err)
            return
        with base.catalogue.write() as connection:
            connection.execute(delete(meta).where(meta.c.key == "former_epoch"))


def _recut(base: KnowledgeBase) -> int:
    """Cut those documents anew that hold chunks longer than the embedder's limit; return how many."""
    embedder = base.embedder()
    too_long: set[str] = set()
    with base.catalogue.read() as connection:
        rows = connection.execute(select(chunks)).mappings().all()
    for begin in range(0, len(rows), BATCH_TEXTS):
        part = rows[begin : begin + BATCH_TEXTS]
        counted = embedder.count_tokens([row_embedded_text(row) for row in part])
        too_long |= {
            str(row["document_id"]) for row, number in zip(part, counted, strict=True) if number > embedder.max_tokens + PATH_TOKENS
        }
    return base.cut_anew(sorted(too_long))
