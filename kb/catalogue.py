"""The catalogue: SQLite in WAL mode, one transaction per document, the truth from which every index can be rebuilt."""

from __future__ import annotations

import contextlib
import hashlib
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, RowMapping, bindparam, delete, func, insert, inspect, select, text, update
from sqlalchemy.exc import DatabaseError, IntegrityError, ProgrammingError

from kb import fulltext
from kb.chunking import Leaf, embedded_text, flatten
from kb.databases import Database, database_at
from kb.errors import StoreError
from kb.links import links_in
from kb.meta import settings
from kb.schema import (
    SCHEMA_VERSION,
    WORDS_VERSION,
    chunks,
    document_targets,
    documents,
    links,
    meta,
    metadata,
    outbox,
    sections,
    vectors,
)
from kb.targets import normalise
from kb.types import Chunk, Document, Kind, Section, Trust
from kb.vectors import collection_name
from kb.versions import keep_version, last_version

if TYPE_CHECKING:
    from kb.embedders.base import EmbedderIdentity

SUMMARY_CHARACTERS = 300


def identifier(*parts: str) -> str:
    """Return 16 hexadecimal digits that stand for the parts."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def vector_key(leaf_text: str) -> str:
    """Return the key of the vector of an embedded text."""
    return hashlib.sha256(leaf_text.encode()).hexdigest()


@dataclass(frozen=True)
class Prepared:
    """A document, chunked and keyed, ready for one transaction."""

    document: Document
    document_id: str
    leaves: tuple[Leaf, ...]
    shape: str
    path: str = ""
    root: str = ""
    vector_hashes: tuple[str, ...] = field(default=())
    """Key of each leaf's vector, in order."""


@dataclass(frozen=True)
class StoredDocument:
    """What the catalogue says of a document, without its sections."""

    document_id: str
    source: str
    path: str
    root: str
    title: str
    kind: Kind
    trust: Trust
    content_hash: str
    shape: str
    targets: tuple[str, ...]
    valid_for: Mapping[str, str]
    front_matter: Mapping[str, Any]  # Any: YAML as written
    version: int


class Catalogue:
    """Open with `Catalogue.open`; safe for several threads and processes."""

    def __init__(self, database: Database, folder: Path) -> None:
        self.database = database
        self.folder = folder
        self.engine = database.engine()
        fulltext.attach(self.engine, folder)

    @staticmethod
    def open(place: Path | str, create: bool = True, folder: Path | None = None) -> Catalogue:
        """Open the catalogue, creating its tables if allowed.

        Args:
            place: The SQLite file, or the address of a PostgreSQL database.
            create: Create what is missing.
            folder: Where files derived from it are kept; None: beside the SQLite file.

        Raises:
            StoreError: It is missing and `create` is False, was made by a newer version, is no database, or cannot be written.
        """
        database = database_at(place)
        if not create:
            database.require()
        chosen = folder or Path(place).parent
        try:
            chosen.mkdir(parents=True, exist_ok=True)
        except OSError as err:
            raise StoreError(f"cannot create {str(chosen)!r}: {err.strerror}; choose another --home") from err
        catalogue = Catalogue(database, chosen)
        try:
            catalogue._initialise(create)
        except DatabaseError as err:
            catalogue.close()
            raise database.translated(err) from err
        return catalogue

    @property
    def name(self) -> str:
        """Where it is, for people and for telling catalogues apart: the file, or the address without its password."""
        return self.database.name

    def close(self) -> None:
        """Release the connections."""
        self.engine.dispose()

    @contextlib.contextmanager
    def read(self) -> Iterator[Connection]:
        """Yield a connection that sees one consistent state."""
        try:
            with self.engine.connect() as connection:
                yield connection
        except (IntegrityError, ProgrammingError):
            raise  # a bug of ours, not a state of the store
        except DatabaseError as err:
            raise self.database.translated(err) from err

    @contextlib.contextmanager
    def write(self) -> Iterator[Connection]:
        """Yield a connection in a write transaction; all of it is kept or none."""
        try:
            with self.engine.connect().execution_options(kb_write=True) as connection, connection.begin():
                yield connection
        except (IntegrityError, ProgrammingError):
            raise  # a bug of ours, not a state of the store
        except DatabaseError as err:
            raise self.database.translated(err) from err

    def _initialise(self, create: bool) -> None:
        with self.engine.connect() as connection:
            version = int(self.get_meta(connection, "schema_version") or 0) if inspect(connection).has_table("meta") else None
        if version is None and not create:
            raise StoreError(f"no knowledge base in {self.name!r}; run `kb ingest PATH` first")
        if version is not None and version > SCHEMA_VERSION:
            raise StoreError(
                f"{self.name!r} has schema version {version}, this program knows {SCHEMA_VERSION}; update the program or choose another --home"
            )
        if version == SCHEMA_VERSION:
            return
        with self.engine.connect().execution_options(kb_write=True) as connection, connection.begin():
            metadata.create_all(connection)
            if self.get_meta(connection, "schema_version") is None:
                for key, value in (("base_id", uuid.uuid4().hex[:8]), ("generation", "0")):
                    self.set_meta(connection, key, value)
            if version is not None and version < WORDS_VERSION:
                connection.execute(text("DROP TABLE IF EXISTS chunks_fts"))
                fulltext.clear(connection)
                fulltext.add(connection, (indexed_row(row) for row in connection.execute(select(chunks)).mappings().all()))
                self.touch(connection)
            self.set_meta(connection, "schema_version", str(SCHEMA_VERSION))

    # Meta

    @staticmethod
    def get_meta(connection: Connection, key: str) -> str | None:
        """Return a setting of the base, or None."""
        return settings(connection).get(key)

    @staticmethod
    def recorded_embedder(connection: Connection) -> dict[str, str]:
        """Return which embedder this base's vectors come from; all empty for a new base."""
        found = settings(connection)
        return {key: found.get(f"embedder_{key}", "") for key in ("spec", "name", "hash", "dimension", "prefix")}

    @staticmethod
    def set_meta(connection: Connection, key: str, value: str) -> None:
        """Store a setting of the base."""
        if connection.execute(update(meta).where(meta.c.key == key).values(value=value)).rowcount == 0:
            connection.execute(insert(meta).values(key=key, value=value))

    @staticmethod
    def generation(connection: Connection) -> int:
        """Return the number of changes so far; equal numbers mean equal content."""
        return int(Catalogue.get_meta(connection, "generation") or 0)

    @staticmethod
    def touch(connection: Connection) -> None:
        """Count a change."""
        connection.execute(text("UPDATE meta SET value = CAST(CAST(value AS INTEGER) + 1 AS TEXT) WHERE key = 'generation'"))

    # Documents

    @staticmethod
    def find_document(
        connection: Connection, *, source: str | None = None, document_id: str | None = None, path: str | None = None
    ) -> StoredDocument | None:
        """Return the document with this source, id or path, or None."""
        query = select(documents)
        if source is not None:
            query = query.where(documents.c.source == source)
        if document_id is not None:
            query = query.where(documents.c.document_id == document_id)
        if path is not None:
            query = query.where(documents.c.path == path)
        row = connection.execute(query.limit(1)).mappings().first()
        return None if row is None else _stored(row)

    @staticmethod
    def list_documents(connection: Connection) -> list[StoredDocument]:
        """Return all documents by source."""
        return [_stored(row) for row in connection.execute(select(documents).order_by(documents.c.source)).mappings()]

    @staticmethod
    def missing_vectors(connection: Connection, keys: Sequence[str]) -> set[str]:
        """Return those keys for which no vector is stored."""
        wanted = set(keys)
        known: set[str] = set()
        ordered = sorted(wanted)
        for begin in range(0, len(ordered), 500):
            part = ordered[begin : begin + 500]
            known |= set(connection.execute(select(vectors.c.vector_hash).where(vectors.c.vector_hash.in_(part))).scalars())
        return wanted - known

    def put_document(self, connection: Connection, prepared: Prepared, new_vectors: Mapping[str, bytes]) -> str:
        """Write a document with its sections, chunks, text index and pending vector writes; return `added` or `updated`."""
        document, document_id = prepared.document, prepared.document_id
        stored = self.find_document(connection, document_id=document_id)
        old_targets = stored.targets if stored else ()
        targets = tuple(dict.fromkeys(normalise(target) for target in document.targets))
        if new_vectors:
            connection.execute(
                text("INSERT INTO vectors(vector_hash, vector) VALUES (:key, :value) ON CONFLICT DO NOTHING"),
                [{"key": key, "value": value} for key, value in new_vectors.items()],
            )
        self._put_row(connection, prepared, stored, targets)
        old_sections = set(connection.execute(select(sections.c.section_id).where(sections.c.document_id == document_id)).scalars())
        section_ids = self._put_sections(connection, prepared)
        kept, added, gone = self._put_chunks(connection, prepared, section_ids)
        self._queue(connection, "chunks", "delete", gone, old_targets)
        self._queue(connection, "chunks", "delete", kept, tuple(target for target in old_targets if target not in targets))
        self._queue(connection, "chunks", "upsert", kept, tuple(target for target in targets if target not in old_targets))
        self._queue(connection, "chunks", "upsert", added, targets)
        self._queue(connection, "sections", "delete", sorted(old_sections - set(section_ids)), old_targets)
        self._queue(
            connection, "sections", "delete", sorted(old_sections), tuple(target for target in old_targets if target not in targets)
        )
        self._queue(connection, "sections", "upsert", section_ids, targets)
        self.touch(connection)
        return "updated" if stored else "added"

    def remove_document(self, connection: Connection, document_id: str) -> bool:
        """Remove a document with everything that hangs on it; return whether it was there."""
        stored = self.find_document(connection, document_id=document_id)
        if stored is None:
            return False
        rows = connection.execute(select(chunks.c.number, chunks.c.chunk_id).where(chunks.c.document_id == document_id)).all()
        section_ids = list(connection.execute(select(sections.c.section_id).where(sections.c.document_id == document_id)).scalars())
        fulltext.remove(connection, [int(row[0]) for row in rows])
        self._queue(connection, "chunks", "delete", [str(row[1]) for row in rows], stored.targets)
        self._queue(connection, "sections", "delete", section_ids, stored.targets)
        keep_version(connection, document_id, "removed")
        for table in (links, chunks, sections, document_targets, documents):
            connection.execute(delete(table).where(table.c.document_id == document_id))
        self.touch(connection)
        return True

    @staticmethod
    def collect_vectors(connection: Connection) -> int:
        """Delete vectors that no chunk uses; return how many."""
        found = connection.execute(text("DELETE FROM vectors WHERE vector_hash NOT IN (SELECT vector_hash FROM chunks)"))
        return int(found.rowcount)

    @staticmethod
    def _put_row(connection: Connection, prepared: Prepared, stored: StoredDocument | None, targets: tuple[str, ...]) -> None:
        document = prepared.document
        values = {
            "source": document.source,
            "path": prepared.path,
            "root": prepared.root,
            "title": document.title,
            "kind": document.kind.value,
            "trust": document.trust.value,
            "content_hash": document.content_hash,
            "shape": prepared.shape,
            "targets": list(targets),
            "valid_for": dict(document.valid_for),
            "front_matter": dict(document.front_matter),
            "version": _next_version(connection, prepared, stored, targets),
            "updated_at": time.time(),
        }
        if stored is None:
            connection.execute(insert(documents).values(document_id=prepared.document_id, **values))
        else:
            if values["version"] != stored.version:
                keep_version(connection, stored.document_id, "updated")
            connection.execute(update(documents).where(documents.c.document_id == prepared.document_id).values(**values))
            connection.execute(delete(document_targets).where(document_targets.c.document_id == prepared.document_id))
        connection.execute(insert(document_targets), [{"document_id": prepared.document_id, "target": target} for target in targets])

    @staticmethod
    def _put_sections(connection: Connection, prepared: Prepared) -> list[str]:
        document_id = prepared.document_id
        connection.execute(delete(links).where(links.c.document_id == document_id))
        connection.execute(delete(sections).where(sections.c.document_id == document_id))
        ids: list[str] = []
        occurrences: dict[tuple[str, ...], int] = {}
        rows, edges = [], []
        for position, (section, path, parent) in enumerate(flatten(prepared.document.root, prepared.document.title)):
            occurrences[path] = occurrences.get(path, 0) + 1
            section_id = identifier(document_id, repr(path), str(occurrences[path]))
            ids.append(section_id)
            rows.append(
                {
                    "section_id": section_id,
                    "document_id": document_id,
                    "parent_id": None if parent is None else ids[parent],
                    "position": position,
                    "level": section.level,
                    "title": section.title,
                    "path": list(path),
                    "text": section.text,
                    "line_start": section.line_start,
                    "line_end": section.line_end,
                    "text_line": section.text_line or section.line_start + (1 if section.level > 0 else 0),
                    "syntax": section.syntax,
                    "summary": summary(section.text),
                }
            )
            for number, (label, address) in enumerate(links_in(section)):
                edges.append({"section_id": section_id, "position": number, "document_id": document_id, "label": label, "address": address})
        connection.execute(insert(sections), rows)
        if edges:
            connection.execute(insert(links), edges)
        return ids

    @staticmethod
    def _reserve_numbers(connection: Connection, how_many: int) -> int:
        """Return the first of so many chunk numbers that no chunk ever had: what is kept of the index elsewhere knows chunks by number."""
        last = int(Catalogue.get_meta(connection, "last_number") or connection.execute(select(func.max(chunks.c.number))).scalar() or 0)
        Catalogue.set_meta(connection, "last_number", str(last + how_many))
        return last + 1

    @staticmethod
    def _put_chunks(connection: Connection, prepared: Prepared, section_ids: Sequence[str]) -> tuple[list[str], list[str], list[str]]:
        document_id = prepared.document_id
        old = {
            str(row.chunk_id): int(row.number)
            for row in connection.execute(select(chunks.c.chunk_id, chunks.c.number).where(chunks.c.document_id == document_id))
        }
        fresh, moved = [], []
        for position, (leaf, key) in enumerate(zip(prepared.leaves, prepared.vector_hashes, strict=True)):
            chunk = leaf.chunk
            place = {
                "position": position,
                "line_start": chunk.line_start,
                "line_end": chunk.line_end,
                "section_id": section_ids[leaf.section_index],
            }
            if chunk.chunk_id in old:
                moved.append({"b_number": old[chunk.chunk_id], **place})
            else:
                fresh.append(
                    {
                        "chunk_id": chunk.chunk_id,
                        "document_id": document_id,
                        "section_path": list(chunk.section_path),
                        "text": chunk.text,
                        "context": chunk.context,
                        "block": chunk.block,
                        "content_hash": chunk.content_hash,
                        "vector_hash": key,
                        **place,
                    }
                )
        new_ids = {leaf.chunk.chunk_id for leaf in prepared.leaves}
        gone = {chunk_id: number for chunk_id, number in old.items() if chunk_id not in new_ids}
        if gone:
            fulltext.remove(connection, list(gone.values()))
            connection.execute(
                delete(chunks).where(chunks.c.number == bindparam("b_number")), [{"b_number": number} for number in gone.values()]
            )
        if moved:
            connection.execute(
                update(chunks)
                .where(chunks.c.number == bindparam("b_number"))
                .values({name: bindparam(name) for name in ("position", "line_start", "line_end", "section_id")}),
                moved,
            )
        if fresh:
            for number, row in enumerate(fresh, start=Catalogue._reserve_numbers(connection, len(fresh))):
                row["number"] = number
            connection.execute(insert(chunks), fresh)
            fulltext.add(connection, (indexed_row(row) for row in fresh))
        return [key for key in old if key in new_ids], [str(row["chunk_id"]) for row in fresh], sorted(gone)

    @staticmethod
    def _queue(connection: Connection, level: str, action: str, ids: Sequence[str], targets: Sequence[str]) -> None:
        rows = [{"action": action, "collection": collection_name(level, target), "item_id": item} for target in targets for item in ids]
        if rows:
            connection.execute(insert(outbox), rows)

    # Reading back

    @staticmethod
    def get_chunk(connection: Connection, chunk_id: str) -> Chunk | None:
        """Return a chunk, or None."""
        row = connection.execute(select(chunks).where(chunks.c.chunk_id == chunk_id)).mappings().first()
        return None if row is None else chunk_of(row)

    @staticmethod
    def get_root(connection: Connection, document_id: str) -> Section | None:
        """Return the tree of sections of a document as it was added, or None."""
        rows = (
            connection.execute(select(sections).where(sections.c.document_id == document_id).order_by(sections.c.position)).mappings().all()
        )
        children: dict[str | None, list[Any]] = {}  # Any: SQLAlchemy row mappings
        for row in rows:
            children.setdefault(row["parent_id"], []).append(row)

        def build(row: Any) -> Section:  # Any: SQLAlchemy row mapping
            return Section(
                title=row["title"],
                level=row["level"],
                text=row["text"],
                line_start=row["line_start"],
                line_end=row["line_end"],
                children=tuple(build(child) for child in children.get(row["section_id"], [])),
                text_line=row["text_line"],
                syntax=row["syntax"],
            )

        return build(rows[0]) if rows else None

    @staticmethod
    def counts(connection: Connection) -> dict[str, int]:
        """Return the number of rows per table."""
        return {
            table.name: int(connection.execute(select(func.count()).select_from(table)).scalar_one())
            for table in (documents, sections, chunks, vectors, links, outbox)
        }

    def record_embedder(self, connection: Connection, spec: str, identity: EmbedderIdentity) -> None:
        """Store which embedder this base's vectors come from."""
        values = {
            "spec": spec,
            "name": identity.name,
            "hash": identity.weight_hash,
            "dimension": str(identity.dimension),
            "prefix": identity.prefix,
        }
        for key, value in values.items():
            self.set_meta(connection, f"embedder_{key}", value)


def summary(section_text: str) -> str:
    """Return the first sentences of a section's prose: its extractive summary."""
    prose = []
    fenced = False
    for line in section_text.split("\n"):
        if line.lstrip().startswith(("```", "~~~")):
            fenced = not fenced
        elif not fenced and line.strip() and not line.lstrip().startswith(("|", "<", "!", ":::")):
            prose.append(line.strip())
        if sum(map(len, prose)) > SUMMARY_CHARACTERS:
            break
    joined = " ".join(prose)
    if len(joined) <= SUMMARY_CHARACTERS:
        return joined
    cut = max(joined.rfind(". ", 0, SUMMARY_CHARACTERS) + 1, 0) or joined.rfind(" ", 0, SUMMARY_CHARACTERS)
    return joined[: cut if cut > 0 else SUMMARY_CHARACTERS].strip()


def indexed_row(row: Mapping[str, Any] | RowMapping) -> tuple[int, str, str]:  # Any: columns of the table `chunks`
    """Return what the full-text index holds for a chunk."""
    body = f"{row['context']}\n{row['text']}" if row["context"] else row["text"]
    return int(row["number"]), " > ".join(row["section_path"]), body


def chunk_of(row: RowMapping) -> Chunk:
    """Return the chunk of a row of the table `chunks`."""
    return Chunk(
        chunk_id=row["chunk_id"],
        document_id=row["document_id"],
        section_path=tuple(row["section_path"]),
        text=row["text"],
        line_start=row["line_start"],
        line_end=row["line_end"],
        content_hash=row["content_hash"],
        block=row["block"],
        context=row["context"],
    )


def leaf_key(leaf: Leaf) -> str:
    """Return the key of a leaf's vector."""
    return vector_key(drop_control(leaf.embedded_text))


def drop_control(value: str) -> str:
    """Return the text without NUL characters, which neither SQLite's text nor the tokenizer handles."""
    return value.replace("\0", "")


def row_embedded_text(row: RowMapping) -> str:
    """Return what was embedded for a row of the table `chunks`."""
    return drop_control(embedded_text(tuple(row["section_path"]), row["context"], row["text"]))


def _next_version(connection: Connection, prepared: Prepared, stored: StoredDocument | None, targets: tuple[str, ...]) -> int:
    """Return the version that a document gets: one more if it says something else than before, also across a removal."""
    document = prepared.document
    if stored is None:
        return last_version(connection, prepared.document_id) + 1
    before = (stored.content_hash, stored.title, stored.kind, stored.trust, set(stored.targets), dict(stored.valid_for))
    now = (document.content_hash, document.title, document.kind, document.trust, set(targets), dict(document.valid_for))
    return stored.version + (before != now)


def _stored(row: RowMapping) -> StoredDocument:
    return StoredDocument(
        document_id=row["document_id"],
        source=row["source"],
        path=row["path"],
        root=row["root"],
        title=row["title"],
        kind=Kind(row["kind"]),
        trust=Trust(row["trust"]),
        content_hash=row["content_hash"],
        shape=row["shape"],
        targets=tuple(row["targets"]),
        valid_for=dict(row["valid_for"]),
        front_matter=dict(row["front_matter"]),
        version=row["version"],
    )
