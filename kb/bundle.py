"""A whole base in one file, for copies, for machines without a network and for handing knowledge on.

The file is a ZIP archive with fixed members, each listed with size and SHA-256 in `manifest.json`:

| member | holds |
|---|---|
| `documents.jsonl` | a document a line: metadata and the tree of its sections |
| `experience.jsonl` | winners, lessons and the evidence of lessons |
| `versions.jsonl` | past versions of the documents |
| `status.jsonl` | which documents are retired or superseded |
| `vectors.bin` | optional: 32 bytes (SHA-256 of the embedded text), then the vector in float32, little endian; again and again |

Nothing is ever unpacked to disk. A reader refuses files of a later format, members it does not know, archives that unpack to more than they say or to far
more than they hold, and vectors of another embedder; it reads everything before it writes, and writes in one transaction.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from sqlalchemy import Connection, Table, delete, insert, select, text

from kb.catalogue import Catalogue, Prepared, identifier
from kb.embedders.base import differences
from kb.errors import DocumentError, EmbedderMismatch
from kb.schema import document_status, document_texts, document_versions, documents, lesson_evidence, lessons, winners
from kb.types import Document, Kind, Section, Trust

if TYPE_CHECKING:
    from kb.store import KnowledgeBase

FORMAT = "kernelevolve-knowledge"
VERSION = 1
MANIFEST = "manifest.json"
MEMBERS = ("documents.jsonl", "experience.jsonl", "versions.jsonl", "status.jsonl", "vectors.bin")
MAX_BYTES = 64 * 2**30
"""Of all members, unpacked."""
MAX_RATIO = 200
"""Unpacked to packed bytes; text packs to a fifth or a tenth."""
MAX_LINE_BYTES = 512 * 2**20
HARMLESS_BYTES = 16 * 2**20
"""Below this an archive may pack as well as it likes."""
SPOT_CHECKS = 3
SPOT_SIMILARITY = 0.99


@dataclass(frozen=True)
class ExportReport:
    """What an export wrote."""

    path: str
    documents: int
    winners: int
    lessons: int
    vectors: int
    size_bytes: int


@dataclass(frozen=True)
class ImportReport:
    """What an import changed."""

    added: int
    updated: int
    unchanged: int
    chunks: int
    """Of the documents added or updated."""
    embedded: int
    """Texts that had to go through the embedder, because the file had no vector for them."""
    winners: int
    lessons: int


# Writing


def export_bundle(base: KnowledgeBase, path: Path, with_vectors: bool, overwrite: bool) -> ExportReport:
    """See `KnowledgeBase.export`."""
    if path.exists() and not overwrite:
        raise DocumentError(str(path), "is there already; choose another name or pass --overwrite")
    if not path.parent.is_dir():
        raise DocumentError(str(path), "its directory does not exist")
    handle, draft = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as stream, base.catalogue.read() as connection:
            counts = _write(stream, connection, with_vectors)
            stream.flush()
            os.fsync(stream.fileno())
        Path(draft).replace(path)
    except OSError as err:
        raise DocumentError(str(path), f"cannot be written: {err.strerror or err}") from err
    finally:
        Path(draft).unlink(missing_ok=True)
    return ExportReport(str(path), **counts, size_bytes=path.stat().st_size)


def _write(stream: IO[bytes], connection: Connection, with_vectors: bool) -> dict[str, int]:
    embedder = Catalogue.recorded_embedder(connection)
    counts = {"documents": 0, "winners": 0, "lessons": 0, "vectors": 0}
    sizes: dict[str, dict[str, object]] = {}
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, allowZip64=True) as archive:

        @contextlib.contextmanager
        def member(name: str) -> Iterator[_Hashed]:
            with archive.open(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), "w", force_zip64=True) as inner:
                hashed = _Hashed(inner)
                yield hashed
            sizes[name] = {"bytes": hashed.size, "sha256": hashed.digest.hexdigest()}

        with member("documents.jsonl") as lines:
            for stored in Catalogue.list_documents(connection):
                root = Catalogue.get_root(connection, stored.document_id)
                if root is not None:
                    lines.line({**_head(stored), "root": _section_json(root)})
                    counts["documents"] += 1
        with member("experience.jsonl") as lines:
            for table in (winners, lessons, lesson_evidence):
                for row in connection.execute(select(table).order_by(*table.primary_key.columns)).mappings():
                    lines.line({"table": table.name, **row})
                    counts[table.name] = counts.get(table.name, 0) + 1
        counts.pop(lesson_evidence.name, None)
        with member("versions.jsonl") as lines:
            for table in (document_versions, document_texts):
                for row in connection.execute(select(table).order_by(*table.primary_key.columns)).mappings():
                    values = {
                        key: base64.b64encode(value).decode() if isinstance(value, bytes | memoryview) else value
                        for key, value in row.items()
                    }
                    lines.line({"table": table.name, **values})
        with member("status.jsonl") as lines:
            for row in connection.execute(select(document_status).order_by(document_status.c.document_id)).mappings():
                lines.line(dict(row))
        if with_vectors and embedder["dimension"]:
            with member("vectors.bin") as lines:
                statement = text(
                    "SELECT vector_hash, vector FROM vectors WHERE vector_hash IN (SELECT vector_hash FROM chunks) ORDER BY vector_hash"
                )
                for entry in connection.execute(statement):
                    lines.write(bytes.fromhex(entry.vector_hash) + bytes(entry.vector))
                    counts["vectors"] += 1
        manifest = {"format": FORMAT, "version": VERSION, "embedder": embedder, "counts": counts, "members": sizes}
        archive.writestr(zipfile.ZipInfo(MANIFEST, (1980, 1, 1, 0, 0, 0)), json.dumps(manifest, indent=1))
    return counts


class _Hashed:
    """Writes and hashes at once."""

    def __init__(self, inner: IO[bytes]) -> None:
        self._inner = inner
        self.size = 0
        self.digest = hashlib.sha256()

    def write(self, data: bytes) -> None:
        self._inner.write(data)
        self.size += len(data)
        self.digest.update(data)

    def line(self, value: Mapping[str, object]) -> None:
        self.write(json.dumps(value, ensure_ascii=False, default=str).encode() + b"\n")


def _head(stored: Any) -> dict[str, Any]:  # Any: kb.catalogue.StoredDocument and JSON
    names = ("source", "title", "content_hash", "targets", "valid_for", "front_matter")
    return {**{name: getattr(stored, name) for name in names}, "kind": stored.kind.value, "trust": stored.trust.value}


def _section_json(section: Section) -> dict[str, Any]:  # Any: JSON
    return {**section.__dict__, "children": [_section_json(child) for child in section.children]}


# Reading


class Bundle:
    """A file that was checked from the first byte to the last; open with `Bundle.open`."""

    def __init__(self, path: Path, manifest: Mapping[str, Any], archive: zipfile.ZipFile) -> None:  # Any: JSON
        self.path = path
        self.manifest = manifest
        self._archive = archive

    @staticmethod
    @contextlib.contextmanager
    def open(path: Path) -> Iterator[Bundle]:
        """Yield the file, checked.

        Raises:
            DocumentError: It is missing, no export of ours, of a later format, damaged, or built to do harm.
        """
        try:
            with zipfile.ZipFile(path) as archive:
                bundle = Bundle(path, _manifest(path, archive), archive)
                bundle._verify()
                yield bundle
        except FileNotFoundError as err:
            raise DocumentError(str(path), "no such file; check the spelling") from err
        except (zipfile.BadZipFile, EOFError, NotImplementedError, zipfile.LargeZipFile) as err:
            raise DocumentError(str(path), f"is no export of `kb export`, or damaged: {err}") from err
        except (OSError, RuntimeError) as err:
            raise DocumentError(str(path), f"cannot be read: {err}") from err

    @property
    def embedder(self) -> Mapping[str, str]:
        """Which embedder its vectors come from."""
        found: Mapping[str, str] = self.manifest["embedder"]
        return found

    @property
    def has_vectors(self) -> bool:
        """Whether vectors are in it."""
        return "vectors.bin" in self.manifest["members"]

    def lines(self, name: str) -> Iterator[dict[str, Any]]:  # Any: JSON
        """Yield the JSON lines of a member."""
        with self._archive.open(name) as stream:
            number = 0
            while raw := stream.readline(MAX_LINE_BYTES):
                number += 1
                try:
                    value = json.loads(raw)
                except (ValueError, RecursionError) as err:
                    raise DocumentError(str(self.path), f"line {number} of {name} is no JSON: {err}") from err
                if not isinstance(value, dict):
                    raise DocumentError(str(self.path), f"line {number} of {name} is no JSON object")
                yield value

    def vectors(self) -> dict[str, bytes]:
        """Return the vectors by the hash of their text."""
        found: dict[str, bytes] = {}
        length = 32 + 4 * int(self.embedder["dimension"])
        with self._archive.open("vectors.bin") as stream:
            while record := stream.read(length):
                if len(record) != length:
                    raise DocumentError(str(self.path), "vectors.bin ends within a vector")
                found[record[:32].hex()] = record[32:]
        return found

    def _verify(self) -> None:
        """Read every member once and compare with the manifest, before anything is used."""
        members = self.manifest["members"]
        for info in self._archive.infolist():
            if info.filename != MANIFEST and info.filename not in members:
                raise DocumentError(str(self.path), f"holds {info.filename!r}, which no export has; it is not unpacked")
            if info.file_size > HARMLESS_BYTES and info.file_size > MAX_RATIO * max(1, info.compress_size):
                raise DocumentError(
                    str(self.path), f"{info.filename} would unpack {info.compress_size:,} bytes to {info.file_size:,}: refused as a bomb"
                )
        if len(self._archive.infolist()) != len(members) + 1:
            raise DocumentError(str(self.path), "holds a member twice, or lacks one that its manifest lists")
        total = sum(int(entry["bytes"]) for entry in members.values())
        if total > MAX_BYTES:
            raise DocumentError(str(self.path), f"would unpack to {total:,} bytes, more than the limit of {MAX_BYTES:,}")
        for name, entry in members.items():
            digest, size = hashlib.sha256(), 0
            with self._archive.open(name) as stream:
                while data := stream.read(2**20):
                    size += len(data)
                    if size > int(entry["bytes"]):
                        raise DocumentError(str(self.path), f"{name} is longer than its manifest says")
                    digest.update(data)
            if size != int(entry["bytes"]) or digest.hexdigest() != entry["sha256"]:
                raise DocumentError(str(self.path), f"{name} is not what its manifest says: the file was damaged or changed")


def _manifest(path: Path, archive: zipfile.ZipFile) -> Mapping[str, Any]:  # Any: JSON
    names = {info.filename: info for info in archive.infolist()}
    if MANIFEST not in names or names[MANIFEST].file_size > HARMLESS_BYTES:
        raise DocumentError(str(path), "is no export of `kb export`: it has no manifest.json")
    try:
        manifest = json.loads(archive.read(MANIFEST))
        version, members, embedder = manifest["version"], manifest["members"], manifest["embedder"]
        if manifest["format"] != FORMAT or not isinstance(version, int):
            raise ValueError(f"format {manifest['format']!r}, version {version!r}")
        if version > VERSION:
            raise DocumentError(str(path), f"has format version {version}, this program knows {VERSION}; update the program")
        unknown = sorted(set(members) - set(MEMBERS))
        if unknown or not set(MEMBERS[:-1]) <= set(members):
            raise ValueError(f"members {sorted(members)}")
        if any(
            not isinstance(entry["bytes"], int) or entry["bytes"] < 0 or not isinstance(entry["sha256"], str) for entry in members.values()
        ):
            raise ValueError("sizes or hashes are no such")
        if not all(isinstance(embedder[key], str) for key in ("spec", "name", "hash", "dimension", "prefix")):
            raise ValueError("embedder")
        if "vectors.bin" in members and not 1 <= int(embedder["dimension"]) <= 65_536:
            raise ValueError(f"dimension {embedder['dimension']!r}")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as err:
        raise DocumentError(str(path), f"its manifest.json cannot be used: {err}") from err
    found: Mapping[str, Any] = manifest
    return found


def recorded_spec(path: Path) -> str | None:
    """Return the name of the embedder whose vectors a file holds, None if it holds none or the embedder had no name.

    Raises:
        DocumentError: See `Bundle.open`; only the manifest is read here.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            manifest = _manifest(path, archive)
    except (OSError, zipfile.BadZipFile):
        return None  # `import_bundle` says what is wrong
    return str(manifest["embedder"]["spec"]) or None if "vectors.bin" in manifest["members"] else None


def import_bundle(base: KnowledgeBase, path: Path, re_embed: bool) -> ImportReport:
    """See `KnowledgeBase.import_`."""
    with Bundle.open(path) as bundle:
        epoch = base.catalogue_epoch()
        embedder = base.embedder()
        use_vectors = bundle.has_vectors and not re_embed
        if use_vectors:
            different = differences(bundle.embedder, embedder.identity)
            if different:
                raise EmbedderMismatch(
                    f"the vectors in {str(path)!r} come from another embedder ({'; '.join(different)}); "
                    "import with --re-embed to embed its documents here, or into a base of that embedder"
                )
        incoming = [_document(bundle, entry) for entry in bundle.lines("documents.jsonl")]
        experience = list(bundle.lines("experience.jsonl"))
        past = list(bundle.lines("versions.jsonl"))
        status = list(bundle.lines("status.jsonl"))
        found = bundle.vectors() if use_vectors else {}
        known = {stored.document_id: stored for stored in base.documents()}
        prepared = [
            base.prepare_document(document) for document in incoming if not _is_known(known.get(identifier(document.source)), document)
        ]
        _spot_check(base, bundle, prepared, found)
        missing = base.missing_texts(prepared, found)
        fresh = base.embed_texts(missing)
        with base.catalogue.write() as connection:
            base.require_epoch(connection, epoch)
            outcomes = _put(base, connection, prepared, {**found, **fresh}, past, set(known))
            counts = _put_experience(bundle, connection, experience)
            _put_status(bundle, connection, status)
    base.index.flush()
    return ImportReport(
        added=outcomes.count("added"),
        updated=outcomes.count("updated"),
        unchanged=len(incoming) - len(prepared),
        chunks=sum(len(item.leaves) for item in prepared),
        embedded=len(fresh),
        **counts,
    )


def _is_known(stored: Any, document: Document) -> bool:  # Any: StoredDocument or None
    return stored is not None and (stored.content_hash, stored.kind, stored.trust, set(stored.targets), stored.title) == (
        document.content_hash,
        document.kind,
        document.trust,
        set(document.targets),
        document.title,
    )


def _document(bundle: Bundle, entry: Mapping[str, Any]) -> Document:  # Any: JSON
    try:
        if not all(isinstance(entry[name], str) and entry[name] for name in ("source", "title", "content_hash")):
            raise ValueError("source, title and content_hash are texts")
        return Document(
            source=entry["source"],
            title=entry["title"],
            kind=Kind(entry["kind"]),
            root=_section(entry["root"]),
            content_hash=entry["content_hash"],
            targets=tuple(str(target) for target in entry["targets"]),
            trust=Trust(entry["trust"]),
            valid_for={str(key): str(value) for key, value in entry["valid_for"].items()},
            front_matter=dict(entry["front_matter"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as err:
        raise DocumentError(str(bundle.path), f"a document in it cannot be used: {type(err).__name__} {err}") from err


def _section(entry: Mapping[str, Any]) -> Section:  # Any: JSON
    return Section(
        title=str(entry["title"]),
        level=int(entry["level"]),
        text=str(entry["text"]),
        line_start=int(entry["line_start"]),
        line_end=int(entry["line_end"]),
        children=tuple(_section(child) for child in entry["children"]),
        text_line=int(entry["text_line"]),
        syntax=str(entry["syntax"]),
    )


def _spot_check(base: KnowledgeBase, bundle: Bundle, prepared: Sequence[Prepared], found: Mapping[str, bytes]) -> None:
    """Embed a few texts and compare: vectors that are not of their texts would spoil every answer in silence."""
    import numpy as np

    texts = {key: text_ for key, text_ in base.texts_of(prepared).items() if key in found}
    for key in sorted(texts)[:SPOT_CHECKS]:
        mine = np.frombuffer(base.embed_texts({key: texts[key]})[key], dtype="<f4")
        if float(mine @ np.frombuffer(found[key], dtype="<f4")) < SPOT_SIMILARITY:
            raise DocumentError(str(bundle.path), "its vectors are not those of its texts; import it with --re-embed")


def _put(
    base: KnowledgeBase,
    connection: Connection,
    prepared: Sequence[Prepared],
    found: Mapping[str, bytes],
    past: Sequence[Mapping[str, Any]],  # Any: JSON
    known: set[str],
) -> list[str]:
    tables = {table.name: table for table in (document_versions, document_texts)}
    had = set(connection.execute(select(document_versions.c.document_id)).scalars())
    for entry in past:
        table = tables.get(str(entry.get("table")))
        if table is None or entry.get("document_id") in known | had:
            continue  # a document that is here has a history of its own
        values = _row(table, entry)
        connection.execute(insert(table).values(values))
    outcomes = []
    for item in prepared:
        needed = {key: found[key] for key in item.vector_hashes if key in found}
        outcomes.append(base.put_prepared(connection, item, needed))
    return outcomes


def _row(table: Table, entry: Mapping[str, Any]) -> dict[str, Any]:  # Any: JSON
    values = {column.name: entry[column.name] for column in table.columns}
    if "record" in values and table is document_texts:
        values["record"] = base64.b64decode(values["record"], validate=True)
    return values


def _put_experience(bundle: Bundle, connection: Connection, entries: Sequence[Mapping[str, Any]]) -> dict[str, int]:  # Any: JSON
    from kb.records import lesson_from_json, winner_from_json

    tables = {table.name: table for table in (winners, lessons, lesson_evidence)}
    counts = {"winners": 0, "lessons": 0}
    for entry in entries:
        try:
            table = tables[str(entry["table"])]
            values = _row(table, entry)
            if table is winners:
                winner_from_json(values["record"])
            elif table is lessons:
                lesson_from_json(values["record"])
        except (KeyError, TypeError, ValueError) as err:
            raise DocumentError(str(bundle.path), f"a winner or lesson in it cannot be used: {err}") from err
        same = [column == values[column.name] for column in table.primary_key.columns]
        if connection.execute(select(*table.primary_key.columns).where(*same)).first() is not None:
            continue  # what is here was measured here, or is the same
        connection.execute(insert(table).values(values))
        if table.name in counts:
            counts[table.name] += 1
    return counts


def _put_status(bundle: Bundle, connection: Connection, entries: Sequence[Mapping[str, Any]]) -> None:  # Any: JSON
    for entry in entries:
        try:
            values = _row(document_status, entry)
        except KeyError as err:
            raise DocumentError(str(bundle.path), f"status.jsonl lacks {err}") from err
        is_here = connection.execute(select(documents.c.document_id).where(documents.c.document_id == values["document_id"])).first()
        if is_here is not None:
            connection.execute(delete(document_status).where(document_status.c.document_id == values["document_id"]))
            connection.execute(insert(document_status).values(values))
