"""The knowledge base: the one object that ingestion, search, agents and commands use."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, select, text

from kb.blocks import code_blocks
from kb.catalogue import Catalogue, Prepared, StoredDocument, drop_control, identifier, leaf_key
from kb.chunking import SHAPE, chunk_document
from kb.errors import EmbedderMismatch, UnknownNameError
from kb.home import default_embedder, vectors_address
from kb.index import VectorIndex
from kb.records import winner_document
from kb.retrieval import MODES, Fusion
from kb.schema import chunks
from kb.search import Searcher
from kb.types import (
    CheckReport,
    Chunk,
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
    from kb.embedders.base import Embedder

log = logging.getLogger(__name__)

EMBED_BATCH = 256
"""Texts handed to the embedder at once; progress is reported after each batch."""


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
        self._is_checked = False
        self.index = VectorIndex(catalogue, home / "kb", vectors)
        self._searcher = Searcher(catalogue, self.embedder, self.index)

    @staticmethod
    def open(home: str | Path, *, embedder: Embedder | str | None = None, create: bool = True, vectors: str | None = None) -> KnowledgeBase:
        """Open the base under a home directory.

        Args:
            home: State directory; the base lives in its folder `kb`.
            embedder: Name (`minilm`, `minilm-int8`, `sentence-transformers:FOLDER`, `hashing`) or object; None: the one the base was built with,
                for a new base `KEVOLVE_EMBEDDER` or `minilm`.
            create: Create a missing base.
            vectors: Address of a Chroma server; None: `KEVOLVE_CHROMA_URL`, else embedded.

        Raises:
            StoreError: The store is missing (and `create` is False), damaged, newer than this program, or cannot be written.
            EmbedderMismatch: The base was built with another embedder.
            UnknownNameError: No embedder has that name.
        """
        folder = Path(home).expanduser().absolute()
        catalogue = Catalogue.open(folder / "kb" / "catalogue.sqlite", create)
        with catalogue.read() as connection:
            recorded = {key: Catalogue.get_meta(connection, f"embedder_{key}") for key in ("spec", "name")}
        chosen = embedder if embedder is not None else (recorded["spec"] or default_embedder())
        if recorded["name"] and not recorded["spec"] and embedder is None:
            raise EmbedderMismatch(
                f"this base was built with the embedder object {recorded['name']!r}, which has no registered name; pass embedder="
            )
        if isinstance(chosen, str):
            from kb.embedders.registry import make_embedder

            base = KnowledgeBase(
                folder,
                catalogue,
                None if embedder is None and recorded["name"] else make_embedder(chosen),
                chosen,
                vectors or vectors_address(),
            )
        else:
            base = KnowledgeBase(folder, catalogue, chosen, "", vectors or vectors_address())
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

        Raises:
            EmbedderMismatch: They come from another one.
        """
        with self._lock:
            if self._embedder is None:
                from kb.embedders.registry import make_embedder

                self._embedder = make_embedder(self._spec)
            if not self._is_checked:
                self._check_embedder(self._embedder)
                self._is_checked = True
            return self._embedder

    def _check_embedder(self, embedder: Embedder) -> None:
        with self.catalogue.read() as connection:
            recorded = {key: Catalogue.get_meta(connection, f"embedder_{key}") for key in ("name", "hash", "dimension", "prefix")}
        if recorded["name"] is None:
            return
        identity = embedder.identity
        offered = {"name": identity.name, "hash": identity.weight_hash, "dimension": str(identity.dimension), "prefix": identity.prefix}
        different = [key for key in offered if offered[key] != recorded[key]]
        if different:
            described = ", ".join(f"{key} {recorded[key]!r} there, {offered[key]!r} here" for key in different)
            raise EmbedderMismatch(
                f"the vectors of this base come from another embedder ({described}); open it with embedder {recorded['name']!r}, or `kb ingest` into another --home"
            )

    def _record_embedder(self, connection: Connection, embedder: Embedder) -> None:
        if Catalogue.get_meta(connection, "embedder_name") is None:
            self.catalogue.record_embedder(connection, self._spec, embedder.identity)

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
        waiting: list[tuple[int, Prepared]] = []
        for position, item in enumerate(incoming):
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
                self._record_embedder(connection, self.embedder())
                needed |= self._rescue(connection, prepared, needed)
                status = self.catalogue.put_document(connection, prepared, needed)
            embedded = len(needed.keys() - counted)
            counted |= needed.keys()
            outcomes[position] = Added(prepared.document.source, prepared.document_id, status, len(prepared.leaves), embedded)
        return [outcomes[position] for position in range(len(incoming))]

    def remove(self, source: str) -> bool:
        """Remove the document with this source (or document id); return whether it was there. Gone from every leg and level at once."""
        with self.catalogue.write() as connection:
            stored = self.catalogue.find_document(connection, source=source) or self.catalogue.find_document(connection, document_id=source)
            found = stored is not None and self.catalogue.remove_document(connection, stored.document_id)
            if found:
                self.catalogue.collect_vectors(connection)
        if found:
            self.index.flush()
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
        return self._searcher.query(query, top_k, filters or Filters(), explain, fusion or MODES[mode], infer_target)

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

    def lessons(
        self,
        target: str,
        question: str | None = None,
        *,
        problem_id: str | None = None,
        anchor: str | None = None,
        status: tuple[str, ...] = ("provisional", "promoted"),
        limit: int = 16,
    ) -> tuple[LessonMatch, ...]:
        """Return lessons that hold for a target, promoted ones first, or by relevance to a question.

        Args:
            target: Where they must hold (with inheritance).
            question: Rank by relevance to this text.
            problem_id: Only those learned on this problem.
            anchor: Only those whose precondition `anchor` names this operator or none.
            status: Which ones.
            limit: Most lessons to return.
        """
        from kb.experience import find_lessons

        with self.catalogue.read() as connection:
            return find_lessons(connection, self.embedder, target, question, problem_id, anchor, status, limit)

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

    # Inner steps

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
        texts: dict[str, str] = {}
        for item in prepared:
            for leaf, key in zip(item.leaves, item.vector_hashes, strict=True):
                texts.setdefault(key, drop_control(leaf.embedded_text))
        with self.catalogue.read() as connection:
            missing = self.catalogue.missing_vectors(connection, list(texts))
        keys = [key for key in texts if key in missing]
        return self.embed_texts({key: texts[key] for key in keys}, progress)

    def embed_texts(self, texts: Mapping[str, str], progress: Callable[[int], None] | None = None) -> dict[str, bytes]:
        """Return the vectors of texts by key, as little-endian float32 bytes."""
        found: dict[str, bytes] = {}
        keys = list(texts)
        if not keys:
            return found
        embedder = self.embedder()
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
