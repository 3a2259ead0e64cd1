"""The knowledge base: the one object that ingestion, search, agents and commands use."""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, select, text

from kb.blocks import code_blocks
from kb.catalogue import Catalogue, Prepared, StoredDocument, drop_control, identifier, leaf_key
from kb.chunking import SHAPE, chunk_document
from kb.conflicts import conflicts, is_current, refresh, refresh_all
from kb.embedders.base import differences
from kb.errors import EmbedderMismatch, StoreError, UnknownNameError
from kb.home import catalogue_place, default_embedder, vectors_address
from kb.index import VectorIndex, embedder_epoch
from kb.records import winner_document
from kb.retrieval import MODES, Fusion
from kb.schema import chunks
from kb.search import Searcher
from kb.status import reinstate, retire, statuses, supersessions, take_from_front_matter
from kb.types import (
    CheckReport,
    Chunk,
    Confirmation,
    Conflict,
    Document,
    Filters,
    KernelDocument,
    Kind,
    Lesson,
    LessonMatch,
    QueryResult,
    TreeNode,
    Winner,
    WinnerMatch,
)

if TYPE_CHECKING:
    from kb.bundle import ExportReport, ImportReport
    from kb.embedders.base import Embedder
    from kb.reembedding import ChangeState, EmbedderChange
    from kb.versions import SectionChange, Version

log = logging.getLogger(__name__)

EMBED_BATCH = 256
"""Texts handed to the embedder at once; progress is reported after each batch."""


EMBEDDER_CHANGES = 5
"""So many changes of the embedder during one call are followed."""


_KNOWN_ID = text("SELECT 1 FROM documents WHERE document_id = :id UNION SELECT 1 FROM document_versions WHERE document_id = :id")


class _EmbedderChanged(Exception):
    """The base has another embedder by now; what was embedded has to be embedded again."""


@dataclass(frozen=True)
class Incoming:
    """A document on its way in."""

    document: Document
    path: str = ""
    """Absolute path on this machine, if it came from a file."""
    root: str = ""
    """Absolute path of the ingested directory it was found under."""


@dataclass(frozen=True)
class Added:
    """What became of one document."""

    source: str
    document_id: str
    status: str
    """`added`, `updated` or `unchanged`."""
    num_chunks: int
    num_embedded: int
    """Texts that had to go through the embedder."""


class KnowledgeBase:
    """Open with `KnowledgeBase.open`; close it or use it as a context manager. Safe for threads; several processes may share a home."""

    def __init__(self, home: Path, catalogue: Catalogue, embedder: Embedder | None, spec: str, vectors: str | None) -> None:
        self.home = home
        self.catalogue = catalogue
        self._embedder = embedder
        self._spec = spec
        self._lock = threading.RLock()
        self._seen_epoch: str | None = None
        self._is_checked = False
        self._follows = False
        self._successor: tuple[Embedder, str] | None = None
        self.index = VectorIndex(catalogue, home / "kb", vectors)
        self._searcher = Searcher(catalogue, self.embedder, self.index)

    @staticmethod
    def open(
        home: str | Path,
        *,
        embedder: Embedder | str | None = None,
        create: bool = True,
        vectors: str | None = None,
        database: str | None = None,
    ) -> KnowledgeBase:
        """Open the base under a home directory.

        Args:
            home: State directory; the base lives in its folder `kb`.
            embedder: Name (`minilm`, `minilm-int8`, `sentence-transformers:FOLDER`, `hashing`) or object; None: the one the base was built with,
                for a new base `KEVOLVE_EMBEDDER` or `minilm`.
            create: Create a missing base.
            vectors: Address of a Chroma server; None: `KEVOLVE_CHROMA_URL`, else embedded.
            database: Address of a PostgreSQL database for the catalogue; None: for the default home `KEVOLVE_CATALOGUE_URL`, else SQLite in the home.

        Raises:
            StoreError: The store is missing (and `create` is False), damaged, newer than this program, or cannot be written.
            EmbedderMismatch: The base was built with another embedder.
            UnknownNameError: No embedder has that name.
        """
        folder = Path(home).expanduser().absolute()
        catalogue = Catalogue.open(database or catalogue_place(folder), create, folder / "kb")
        with catalogue.read() as connection:
            recorded, epoch = Catalogue.recorded_embedder(connection), embedder_epoch(connection)
        chosen = embedder if embedder is not None else (recorded["spec"] or default_embedder())
        if recorded["name"] and not recorded["spec"] and embedder is None:
            raise EmbedderMismatch(
                f"this base was built with the embedder object {recorded['name']!r}, which has no registered name; pass embedder="
            )
        address = vectors or vectors_address()
        if isinstance(chosen, str):
            from kb.embedders.registry import make_embedder

            is_recorded = embedder is None and bool(recorded["name"])
            base = KnowledgeBase(folder, catalogue, None if is_recorded else make_embedder(chosen), chosen, address)
            base._follows = is_recorded
        else:
            base = KnowledgeBase(folder, catalogue, chosen, "", address)
        base._seen_epoch = epoch
        if embedder is not None and recorded["name"] and embedder != recorded["spec"]:
            base.embedder()
        return base

    def close(self) -> None:
        """Release files and models."""
        self.index.close()
        self.catalogue.close()

    def __enter__(self) -> KnowledgeBase:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    # The embedder

    def embedder(self) -> Embedder:
        """Return the embedder, checked against what the base's vectors come from.

        A base opened without naming an embedder follows when another process changes it.

        Raises:
            EmbedderMismatch: They come from another one.
        """
        from kb.embedders.registry import make_embedder

        with self._lock:
            epoch = self._epoch()
            if self._seen_epoch not in (None, epoch):
                self._follow_change()
                self._is_checked = False
            self._seen_epoch = epoch
            if self._embedder is None:
                self._embedder = make_embedder(self._spec)
            if not self._is_checked:
                self._check_embedder(self._embedder)
                self._is_checked = True
            return self._embedder

    def _follow_change(self) -> None:
        """Take the embedder that the base was changed to, if this object changed it or was opened without naming one."""
        with self.catalogue.read() as connection:
            recorded = Catalogue.recorded_embedder(connection)
        if self._successor is not None and not differences(recorded, self._successor[0].identity):
            self._embedder, self._spec = self._successor
        elif self._follows and recorded["spec"]:
            self._embedder, self._spec = None, recorded["spec"]

    def change_embedder(
        self,
        embedder: Embedder | str,
        *,
        progress: Callable[[int, int], None] | None = None,
        stop: threading.Event | None = None,
    ) -> EmbedderChange:
        """Embed everything anew with another embedder, then switch to it; queries and ingestion go on with the former one until then.

        May be called from a thread or another process than the one that answers queries. Killed or stopped, it goes on when called again.

        Args:
            embedder: Name or object.
            progress: Called with the number of texts done and of all, after each batch.
            stop: Set it to stop after the batch at hand.

        Raises:
            StoreError: Another process is changing the embedder, or the store cannot be written.
        """
        from kb.embedders.registry import make_embedder
        from kb.reembedding import change_embedder

        spec = embedder if isinstance(embedder, str) else ""
        self._successor = (make_embedder(embedder) if isinstance(embedder, str) else embedder, spec)
        return change_embedder(self, *self._successor, progress, stop)

    def change_state(self) -> ChangeState | None:
        """Return how far a change of the embedder is that has begun and is not done, or None."""
        from kb.reembedding import change_state

        with self.catalogue.read() as connection:
            return change_state(connection)

    def recorded_embedder(self) -> dict[str, str]:
        """Return which embedder the vectors come from: `spec`, `name`, `hash`, `dimension`, `prefix`; all empty for a new base."""
        with self.catalogue.read() as connection:
            return Catalogue.recorded_embedder(connection)

    def _epoch(self) -> str:
        with self.catalogue.read() as connection:
            return embedder_epoch(connection)

    def _check_embedder(self, embedder: Embedder) -> None:
        with self.catalogue.read() as connection:
            recorded = Catalogue.recorded_embedder(connection)
        if not recorded["name"]:
            return
        different = differences(recorded, embedder.identity)
        if different:
            raise EmbedderMismatch(
                f"the vectors of this base come from another embedder ({'; '.join(different)}); open it with embedder {recorded['name']!r}, "
                "change it with `kb embedder NAME`, or `kb ingest` into another --home"
            )

    def _record_embedder(self, connection: Connection, epoch: str) -> None:
        """Record the embedder of a new base; refuse vectors made before the base changed to another one."""
        if embedder_epoch(connection) != epoch:
            raise _EmbedderChanged
        recorded = Catalogue.recorded_embedder(connection)
        embedder = self._embedder if self._embedder is not None else self.embedder()
        if not recorded["name"]:
            self.catalogue.record_embedder(connection, self._spec, embedder.identity)
        elif differences(recorded, embedder.identity):
            raise _EmbedderChanged

    @property
    def shape(self) -> str:
        """Version of the chunking: a document stored under another one is read again."""
        return SHAPE

    # Documents

    def add_document(self, document: Document, *, path: str = "", root: str = "") -> str:
        """Add or update one document; return `added`, `updated` or `unchanged`."""
        (outcome,) = self.add_documents([Incoming(document, path, root)])
        self.index.flush()
        return outcome.status

    def add_documents(self, incoming: Sequence[Incoming], progress: Callable[[int], None] | None = None) -> list[Added]:
        """Add or update documents: their missing texts are embedded together, each document is one transaction.

        Does not write to the vector index: call `index.flush()` when done. A crash in between loses nothing.

        Args:
            incoming: The documents.
            progress: Called with the number of texts embedded since the last call.
        """
        outcomes: dict[int, Added] = {}
        for _ in range(EMBEDDER_CHANGES):
            try:
                self._add_rest(incoming, outcomes, progress)
            except _EmbedderChanged:
                continue
            return [outcomes[position] for position in range(len(incoming))]
        raise StoreError("the embedder of this base keeps changing; try again")

    def _add_rest(self, incoming: Sequence[Incoming], outcomes: dict[int, Added], progress: Callable[[int], None] | None) -> None:
        """Add those documents that have no outcome yet.

        Raises:
            _EmbedderChanged: Another process changed the embedder in between; the vectors made here are not used.
        """
        epoch = self._epoch()
        waiting: list[tuple[int, Prepared]] = []
        for position, item in enumerate(incoming):
            if position in outcomes:
                continue
            document_id = identifier(item.document.source)
            stored = self._stored(document_id)
            if stored is not None and self._is_same(stored, item):
                outcomes[position] = Added(item.document.source, document_id, "unchanged", self._num_chunks(document_id), 0)
            else:
                waiting.append((position, self._prepare(item, document_id)))
        fresh = self._embed_missing([prepared for _, prepared in waiting], progress)
        counted: set[str] = set()
        for position, prepared in waiting:
            needed = {key: fresh[key] for key in prepared.vector_hashes if key in fresh}
            with self.catalogue.write() as connection:
                self._record_embedder(connection, epoch)
                needed |= self._rescue(connection, prepared, needed)
                status = self._put(connection, prepared, needed)
            embedded = len(needed.keys() - counted)
            counted |= needed.keys()
            outcomes[position] = Added(prepared.document.source, prepared.document_id, status, len(prepared.leaves), embedded)

    def cut_anew(self, document_ids: Sequence[str]) -> int:
        """Cut documents into chunks again by the embedder's present limit; return how many changed."""
        changed = 0
        for document_id in document_ids:
            stored = self._stored(document_id)
            if stored is None:
                continue
            prepared = self._prepare(Incoming(self.get_document(document_id), stored.path, stored.root), document_id)
            if [leaf.chunk.chunk_id for leaf in prepared.leaves] == [chunk.chunk_id for chunk in self.chunks_of(document_id)]:
                continue
            epoch = self._epoch()
            fresh = self._embed_missing([prepared], None)
            with self.catalogue.write() as connection:
                self._record_embedder(connection, epoch)
                self.put_prepared(connection, prepared, fresh)
            changed += 1
        self.index.flush()
        return changed

    def remove(self, source: str) -> bool:
        """Remove the document with this source (or document id); return whether it was there. Gone from every leg and level at once."""
        with self.catalogue.write() as connection:
            stored = self.catalogue.find_document(connection, source=source) or self.catalogue.find_document(connection, document_id=source)
            found = stored is not None and self.catalogue.remove_document(connection, stored.document_id)
            if found:
                self.catalogue.collect_vectors(connection)
        self.index.flush()  # also what a process that was killed left waiting
        return found

    def documents(self) -> list[StoredDocument]:
        """Return what the catalogue says of all documents, by source."""
        with self.catalogue.read() as connection:
            return self.catalogue.list_documents(connection)

    def get_document(self, document_id: str) -> Document:
        """Return a document by id or source, as it was added.

        Raises:
            UnknownNameError: There is none.
        """
        with self.catalogue.read() as connection:
            stored = self.catalogue.find_document(connection, document_id=document_id) or self.catalogue.find_document(
                connection, source=document_id
            )
            root = self.catalogue.get_root(connection, stored.document_id) if stored else None
        if stored is None or root is None:
            raise UnknownNameError(f"no document {document_id!r}; `kb tree` lists the ids")
        return Document(
            source=stored.source,
            title=stored.title,
            kind=stored.kind,
            root=root,
            content_hash=stored.content_hash,
            targets=stored.targets,
            trust=stored.trust,
            valid_for=stored.valid_for,
            front_matter=stored.front_matter,
        )

    def get_chunk(self, chunk_id: str) -> Chunk:
        """Return a chunk by id.

        Raises:
            UnknownNameError: There is none.
        """
        with self.catalogue.read() as connection:
            chunk = self.catalogue.get_chunk(connection, chunk_id)
        if chunk is None:
            raise UnknownNameError(f"no chunk {chunk_id!r}; `kb query --json` and `kb show DOCUMENT` give the ids")
        return chunk

    def chunks_of(self, document_id: str) -> list[Chunk]:
        """Return the chunks of a document in order."""
        from kb.catalogue import chunk_of

        with self.catalogue.read() as connection:
            rows = (
                connection.execute(select(chunks).where(chunks.c.document_id == document_id).order_by(chunks.c.position)).mappings().all()
            )
        return [chunk_of(row) for row in rows]

    def kernel_documents(self, target: str) -> tuple[KernelDocument, ...]:
        """Return every kernel document that the target sees, by source."""
        from kb.targets import visible

        allowed = set(visible(target))
        found = []
        with self.catalogue.read() as connection:
            for stored in self.catalogue.list_documents(connection):
                if stored.kind is not Kind.KERNEL or not allowed & set(stored.targets):
                    continue
                root = self.catalogue.get_root(connection, stored.document_id)
                ids = connection.execute(
                    select(chunks.c.chunk_id).where(chunks.c.document_id == stored.document_id).order_by(chunks.c.position)
                ).scalars()
                found.append(
                    KernelDocument(
                        document_id=stored.document_id,
                        source=stored.source,
                        title=stored.title,
                        targets=stored.targets,
                        front_matter=stored.front_matter,
                        blocks=code_blocks(root) if root else (),
                        chunk_ids=tuple(ids),
                        content_hash=stored.content_hash,
                        trust=stored.trust,
                    )
                )
        return tuple(found)

    # Copies

    def export(self, path: str | Path, *, with_vectors: bool = True, overwrite: bool = False) -> ExportReport:
        """Write everything into one file, at one consistent state; the file appears when it is whole.

        Raises:
            DocumentError: The file is there already (and `overwrite` is False) or cannot be written.
        """
        from kb.bundle import export_bundle

        return export_bundle(self, Path(path), with_vectors, overwrite)

    def import_(self, path: str | Path, *, re_embed: bool = False) -> ImportReport:
        """Take in what `export` wrote, all of it or nothing. A document of the same source is updated, its present state kept as a past version.

        Args:
            path: The file.
            re_embed: Do not use the file's vectors.

        Raises:
            DocumentError: The file is no export, of a later format, damaged or hostile; nothing was changed.
            EmbedderMismatch: Its vectors come from another embedder.
        """
        from kb.bundle import import_bundle

        return import_bundle(self, Path(path), re_embed)

    # Versions

    def history(self, source: str) -> tuple[Version, ...]:
        """Return the versions of a document (by source or id), newest first; also of one that was removed.

        Raises:
            UnknownNameError: There never was one.
        """
        from kb.versions import history

        with self.catalogue.read() as connection:
            found = history(connection, source) or history(connection, identifier(source))
        if not found:
            raise UnknownNameError(f"no document {source!r}, now or before; `kb tree` lists the sources")
        return found

    def diff(self, source: str, before: int | None = None, after: int | None = None) -> tuple[SectionChange, ...]:
        """Return how the sections of two versions of a document differ.

        Args:
            source: Of the document, or its id.
            before: A version; None: the one before `after`.
            after: A version; None: the newest, the last one kept if the document was removed.

        Raises:
            UnknownNameError: There is no such document or version, or its text is not kept any more.
        """
        from kb.versions import compare, sections_of

        known = self.history(source)
        chosen_after = known[0].version if after is None else after
        chosen_before = chosen_after - 1 if before is None else before
        with self.catalogue.read() as connection:
            document_id = source if connection.execute(_KNOWN_ID, {"id": source}).first() else identifier(source)
            if before is None and chosen_before < known[-1].version:
                return compare([], sections_of(connection, document_id, chosen_after))
            return compare(sections_of(connection, document_id, chosen_before), sections_of(connection, document_id, chosen_after))

    # Search

    def query(
        self,
        query: str,
        top_k: int = 8,
        filters: Filters | None = None,
        explain: bool = False,
        *,
        mode: str = "hybrid",
        fusion: Fusion | None = None,
        infer_target: bool = True,
    ) -> QueryResult:
        """Return the chunks that answer a query, best first, or an abstention with the nearest.

        Args:
            query: A question, an identifier, an error message or code.
            top_k: Most hits to return, at least 1.
            filters: Restrictions; they hold in every leg.
            explain: Fill `Hit.explain` with the parts that add up to the score.
            mode: `hybrid`, `dense` or `lexical`.
            fusion: Weights in place of those of the mode.
            infer_target: Without a target in `filters`, restrict to the one that the query's words name (`H100`, `gfx942`, `ROCm`), if exactly one.

        Raises:
            ValueError: The query is empty, `top_k` is below 1, or a filter is not written as one.
            UnknownNameError: No such mode.
        """
        if mode not in MODES:
            raise UnknownNameError(f"unknown mode {mode!r}; known: {', '.join(MODES)}")
        result = self._searcher.query(query, top_k, filters or Filters(), explain, fusion or MODES[mode], infer_target)
        found = self.conflicts([hit.chunk_id for hit in result.hits])
        return dataclasses.replace(result, conflicts=found) if found else result

    def warm_up(self) -> None:
        """Compute what questions would otherwise compute one by one: for a process that answers many."""
        from kb.levels import remember

        with self.catalogue.read() as connection:
            remember(connection)

    def conflicts(self, chunk_ids: Sequence[str] | None = None) -> tuple[Conflict, ...]:
        """Return where documents give different numbers for one thing, over the whole base or only where these chunks take part."""
        with self.catalogue.read() as connection:
            if chunk_ids is not None or is_current(connection):
                return conflicts(connection, chunk_ids)
        with self.catalogue.write() as connection:
            refresh_all(connection)
            return conflicts(connection)

    # Status

    def retire(self, source: str, *, successor: str = "", reason: str = "") -> None:
        """Hide a document (by source or id), a lesson (`lesson:ID`) or a winner (`winner:ID`) from every query; it stays in the base.

        Args:
            source: What is no longer right.
            successor: Source of the document that holds instead.
            reason: For people.

        Raises:
            UnknownNameError: There is none, or no such successor.
        """
        if source.startswith("lesson:"):
            self.retire_lesson(source.removeprefix("lesson:"))
        elif source.startswith("winner:"):
            self.retire_winner(source.removeprefix("winner:"))
        else:
            with self.catalogue.write() as connection:
                retire(connection, source, successor, reason)

    def reinstate(self, source: str) -> bool:
        """Make a retired or superseded document current again; return whether it was not."""
        with self.catalogue.write() as connection:
            return reinstate(connection, source)

    def statuses(self) -> Mapping[str, Mapping[str, object]]:
        """Return by source which documents are retired or superseded, since when, why and by what."""
        with self.catalogue.read() as connection:
            return statuses(connection)

    # Winners and lessons

    def add_winner(self, winner: Winner) -> str:
        """Store a winner and make it searchable; return its id. The same candidate for the same problem and target replaces its record."""
        from kb.experience import store_winner

        self.add_documents([Incoming(winner_document(winner))])
        with self.catalogue.write() as connection:
            winner_id = store_winner(connection, winner)
        self.index.flush()
        return winner_id

    def winners(
        self, target: str, signature: str | None = None, problem_hash: str | None = None, limit: int = 8, *, include_retired: bool = False
    ) -> tuple[WinnerMatch, ...]:
        """Return stored winners for a target: same problem first, then same signature, then similar signatures by score.

        Without `signature` and `problem_hash`, all winners for the target, newest first (score 1.0, match `target`).
        """
        from kb.experience import find_winners

        with self.catalogue.read() as connection:
            return find_winners(connection, self.embedder, target, signature, problem_hash, limit, include_retired)

    def retire_winner(self, winner_id: str) -> None:
        """Take a winner out of `winners` and search; its record stays.

        Raises:
            UnknownNameError: There is none.
        """
        from kb.experience import retire_winner

        with self.catalogue.write() as connection:
            retire_winner(connection, winner_id)
        self.remove(f"winner:{winner_id}")

    def add_lesson(self, lesson: Lesson) -> str:
        """Store a lesson and make it searchable; return its id. The same claim with the same preconditions and target replaces its record."""
        from kb.experience import store_lesson
        from kb.records import lesson_document, lesson_id

        if lesson.status == "retired":
            self.remove(f"lesson:{lesson_id(lesson)}")
        else:
            self.add_documents([Incoming(lesson_document(lesson))])
        with self.catalogue.write() as connection:
            stored_id = store_lesson(connection, lesson)
        self.index.flush()
        return stored_id

    def confirm_lesson(self, lesson_id: str, confirmation: Confirmation) -> Lesson:
        """Add a fresh measurement to a lesson, for or against; return the lesson as it stands now.

        It is promoted when the gain is certain on two problems, or on one with an ablation; retired when fresh measurements refute it.

        Raises:
            UnknownNameError: There is none.
        """
        from kb.experience import add_evidence, judged_lesson

        with self.catalogue.write() as connection:
            add_evidence(connection, lesson_id, confirmation)
            lesson = judged_lesson(connection, lesson_id)
        self.add_lesson(lesson)
        return lesson

    def lesson_evidence(self, lesson_id: str) -> tuple[Confirmation, ...]:
        """Return the measurements behind a lesson, oldest first."""
        from kb.experience import evidence_of

        with self.catalogue.read() as connection:
            return evidence_of(connection, lesson_id)

    def retire_lesson(self, lesson_id: str) -> None:
        """Take a lesson out of `lessons` and search; its record and evidence stay.

        Raises:
            UnknownNameError: There is none.
        """
        from kb.experience import get_lesson

        with self.catalogue.read() as connection:
            lesson = get_lesson(connection, lesson_id)
        self.add_lesson(dataclasses.replace(lesson, status="retired"))

    def retire_stale_lessons(self, now: float) -> tuple[str, ...]:
        """Retire provisional lessons whose evidence has decayed; return their ids.

        Args:
            now: Seconds since 1970.
        """
        from kb.experience import stale_lessons

        with self.catalogue.read() as connection:
            found = stale_lessons(connection, now)
        for lesson_id in found:
            self.retire_lesson(lesson_id)
        return found

    def lessons(
        self,
        target: str,
        question: str | None = None,
        *,
        problem_id: str | None = None,
        anchor: str | None = None,
        status: tuple[str, ...] = ("provisional", "promoted"),
        limit: int = 16,
        versions: Mapping[str, str] | None = None,
        now: float | None = None,
    ) -> tuple[LessonMatch, ...]:
        """Return lessons that hold for a target, promoted ones first, or by relevance to a question.

        Args:
            target: Where they must hold (with inheritance).
            question: Rank by relevance to this text.
            problem_id: Only those learned on this problem.
            anchor: Only those whose precondition `anchor` names this operator or none.
            status: Which ones.
            limit: Most lessons to return.
            versions: Of the packages at hand; lessons measured with others count less.
            now: Seconds since 1970; None: the clock.
        """
        from kb.experience import LessonQuery, find_lessons

        wanted = LessonQuery(target, question, problem_id, anchor, status, limit, versions or {}, time.time() if now is None else now)
        with self.catalogue.read() as connection:
            return find_lessons(connection, self.embedder, wanted)

    # Overview and upkeep

    def tree(self, depth: int = 2) -> tuple[TreeNode, ...]:
        """Return the table of contents: families, their documents, and `depth` − 2 further levels of sections."""
        from kb.overview import tree

        with self.catalogue.read() as connection:
            return tree(connection, depth)

    def stats(self) -> Mapping[str, object]:
        """Return counts, the embedder and the size of the store."""
        from kb.overview import stats

        with self.catalogue.read() as connection:
            return stats(connection, self.home / "kb")

    def check(self, repair: bool = False) -> CheckReport:
        """Look for inconsistencies between documents, text index, vectors and vector index.

        Args:
            repair: Mend what is found from the catalogue; missing vectors are embedded again.
        """
        from kb.check import check

        return check(self, repair)

    # Steps of additions, for modules that make larger ones

    def catalogue_epoch(self) -> str:
        """Return which of its embedders the base is at; vectors made before `require_epoch` are good if it did not change."""
        return self._epoch()

    def require_epoch(self, connection: Connection, epoch: str) -> None:
        """Record the embedder of a new base, or see to it that the base did not change its embedder since `epoch`.

        Raises:
            StoreError: It did.
        """
        try:
            self._record_embedder(connection, epoch)
        except _EmbedderChanged as err:
            raise StoreError("the embedder of this base was changed meanwhile; run the same command again") from err

    def prepare_document(self, document: Document) -> Prepared:
        """Return a document chunked and keyed, for `put_prepared`."""
        return self._prepare(Incoming(document), identifier(document.source))

    def put_prepared(self, connection: Connection, prepared: Prepared, new_vectors: Mapping[str, bytes]) -> str:
        """Write a prepared document with the vectors it needs; return `added` or `updated`."""
        needed = {**new_vectors, **self._rescue(connection, prepared, new_vectors)}
        return self._put(connection, prepared, needed)

    @staticmethod
    def texts_of(prepared: Iterable[Prepared]) -> dict[str, str]:
        """Return the texts to embed by the keys of their vectors."""
        texts: dict[str, str] = {}
        for item in prepared:
            for leaf, key in zip(item.leaves, item.vector_hashes, strict=True):
                texts.setdefault(key, drop_control(leaf.embedded_text))
        return texts

    def missing_texts(self, prepared: Iterable[Prepared], found: Iterable[str] = ()) -> dict[str, str]:
        """Return those texts whose vectors are neither stored nor among `found`."""
        texts = self.texts_of(prepared)
        with self.catalogue.read() as connection:
            missing = self.catalogue.missing_vectors(connection, list(texts)) - set(found)
        return {key: texts[key] for key in texts if key in missing}

    # Inner steps

    def _put(self, connection: Connection, prepared: Prepared, new_vectors: Mapping[str, bytes]) -> str:
        """Write a document with what is read off it."""
        status = self.catalogue.put_document(connection, prepared, new_vectors)
        refresh(connection, prepared.document_id)
        take_from_front_matter(connection, prepared.document, prepared.document_id, supersessions(connection) if status == "added" else {})
        return status

    def collect_vectors(self) -> int:
        """Delete vectors that nothing uses; return how many."""
        with self.catalogue.write() as connection:
            return self.catalogue.collect_vectors(connection)

    def _stored(self, document_id: str) -> StoredDocument | None:
        with self.catalogue.read() as connection:
            return self.catalogue.find_document(connection, document_id=document_id)

    def _is_same(self, stored: StoredDocument, item: Incoming) -> bool:
        document = item.document
        return (
            stored.content_hash == document.content_hash
            and stored.shape == self.shape
            and stored.path == item.path
            and stored.root == item.root
            and stored.kind is document.kind
            and stored.trust is document.trust
            and set(stored.targets) == {target.strip().lower() for target in document.targets}
        )

    def _num_chunks(self, document_id: str) -> int:
        with self.catalogue.read() as connection:
            row = connection.execute(text("SELECT count(*) FROM chunks WHERE document_id = :id"), {"id": document_id}).first()
        return int(row[0]) if row else 0

    def _prepare(self, item: Incoming, document_id: str) -> Prepared:
        embedder = self.embedder()
        leaves = chunk_document(item.document, document_id, embedder.count_tokens, embedder.max_tokens)
        return Prepared(
            item.document, document_id, tuple(leaves), self.shape, item.path, item.root, tuple(leaf_key(leaf) for leaf in leaves)
        )

    def _embed_missing(self, prepared: Iterable[Prepared], progress: Callable[[int], None] | None) -> dict[str, bytes]:
        return self.embed_texts(self.missing_texts(prepared), progress)

    def embed_texts(
        self, texts: Mapping[str, str], progress: Callable[[int], None] | None = None, *, with_embedder: Embedder | None = None
    ) -> dict[str, bytes]:
        """Return the vectors of texts by key, as little-endian float32 bytes; `with_embedder` in place of the base's own."""
        found: dict[str, bytes] = {}
        keys = list(texts)
        if not keys:
            return found
        embedder = with_embedder or self.embedder()
        for begin in range(0, len(keys), EMBED_BATCH):
            part = keys[begin : begin + EMBED_BATCH]
            rows = embedder.embed_documents([texts[key] for key in part])
            found |= {key: row.astype("<f4").tobytes() for key, row in zip(part, rows, strict=True)}
            if progress is not None:
                progress(len(part))
        return found

    def _rescue(self, connection: Connection, prepared: Prepared, needed: Mapping[str, bytes]) -> dict[str, bytes]:
        """Embed what another process removed between the look-up and this transaction."""
        missing = self.catalogue.missing_vectors(connection, [key for key in prepared.vector_hashes if key not in needed])
        texts = {
            key: drop_control(leaf.embedded_text)
            for leaf, key in zip(prepared.leaves, prepared.vector_hashes, strict=True)
            if key in missing
        }
        return self.embed_texts(texts)
