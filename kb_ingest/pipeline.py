"""Ingestion: paths to documents in the base, incrementally. What did not change is not embedded again; what is gone from a directory is removed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from kb.errors import DocumentError
from kb.reembedding import discard_leftovers
from kb.store import Incoming, KnowledgeBase
from kb_ingest import checkout
from kb_ingest.includes import included_files
from kb_ingest.readers.base import RawFile
from kb_ingest.readers.registry import reader_for, reader_name
from kb_ingest.report import DocumentReport, describe, totals
from kb_ingest.walk import MAX_FILE_BYTES, Found, absolute_path, walk

log = logging.getLogger(__name__)

BATCH_BYTES = 1_000_000
"""Source bytes read before their texts are embedded together."""
BATCH_DOCUMENTS = 200
MAX_INCLUDE_DEPTH = 8
"""Files that include files that include files."""


@dataclass(frozen=True)
class Failure:
    """A file that could not be taken in."""

    path: str
    reason: str


@dataclass(frozen=True)
class IngestReport:
    """What an ingestion did."""

    added: int = 0
    updated: int = 0
    unchanged: int = 0
    removed: int = 0
    failed: tuple[Failure, ...] = ()
    chunks: int = 0
    """Chunks of the documents added or updated."""
    embedded: int = 0
    """Texts that went through the embedder."""
    sources: tuple[str, ...] = field(default=())
    """Sources added or updated, in order."""
    documents: tuple[DocumentReport, ...] = ()
    """Each document that was read, if `with_details` was asked for."""
    empty: tuple[str, ...] = ()
    """Sources added or updated in which no text was found, so that no question finds them."""

    def to_details(self) -> dict[str, Any]:  # Any: JSON
        """Return everything: counts, failures, sums by format, what was lost, and each document."""
        return {**self.to_json(), "totals": totals(list(self.documents)), "read": [report.to_json() for report in self.documents]}

    def to_json(self) -> dict[str, Any]:  # Any: JSON
        """Return the fields that scripts may rely on."""
        return {
            "documents": {
                "added": self.added,
                "updated": self.updated,
                "unchanged": self.unchanged,
                "removed": self.removed,
                "failed": len(self.failed),
            },
            "chunks": self.chunks,
            "embedded": self.embedded,
            "failures": [{"path": failure.path, "reason": failure.reason} for failure in self.failed],
            "empty": list(self.empty),
        }


@dataclass(frozen=True)
class Progress:
    """A step of an ingestion, for display."""

    stage: str
    """`found` (files), `read` (files) or `embedded` (texts)."""
    number: int
    """How many more."""


OnProgress = Callable[[Progress], None]


def ingest(
    paths: Sequence[str | Path],
    base: KnowledgeBase,
    *,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    defaults: Mapping[str, Any] | None = None,  # Any: front matter values
    on_progress: OnProgress | None = None,
    with_details: bool = False,
) -> IngestReport:
    """Bring files and directories into the base.

    Args:
        paths: Files and directories; every one must exist.
        base: Where they go.
        include: See `walk`.
        exclude: See `walk`.
        defaults: Metadata for files without front matter: `kind`, `targets`, `trust`, `valid_for`.
        on_progress: Called as the work goes on.
        with_details: Report each document that was read: sections, tables, code blocks, what was lost.

    Raises:
        DocumentError: A path does not exist.
        StoreError: The store cannot be written; what was committed before stays.
        EmbedderMismatch: The base was built with another embedder.
    """
    chosen = [Path(path) for path in paths]
    for path in chosen:
        if not path.exists():
            raise DocumentError(str(path), "no such file or directory; check the spelling")
    session = _Session(base, dict(defaults or {}), on_progress or (lambda progress: None), bool(include or exclude), with_details)
    checkout.forget()
    for path in chosen:
        found = list(walk(path, include, exclude))
        session.take(found)
        if path.is_dir():
            for _ in range(0 if include else MAX_INCLUDE_DEPTH):
                more = included_files(base, absolute_path(path), found, exclude)
                if not more:
                    break
                session.take(more)
                found += more
            session.remove_vanished(path, found)
    session.finish()
    return session.report()


class _Session:
    """The state of one ingestion."""

    def __init__(
        self,
        base: KnowledgeBase,
        defaults: Mapping[str, Any],  # Any: front matter values
        on_progress: OnProgress,
        is_filtered: bool,
        with_details: bool,
    ) -> None:
        self._base = base
        self._defaults = defaults
        self._tell = on_progress
        self._is_filtered = is_filtered
        self._with_details = with_details
        self._details: dict[str, DocumentReport] = {}
        self._by_path = {stored.path: stored for stored in base.documents() if stored.path}
        self._by_source = {stored.source: stored for stored in base.documents()}
        self._counts = {"added": 0, "updated": 0, "unchanged": 0}
        self._removed = self._chunks = self._embedded = 0
        self._failed: list[Failure] = []
        self._sources: list[str] = []
        self._empty: list[str] = []
        self._waiting: list[Incoming] = []
        self._waiting_bytes = 0
        self._is_changed = False

    def take(self, found: Sequence[Found]) -> None:
        """Read the files and add them in batches."""
        self._tell(Progress("found", len(found)))
        for item in found:
            try:
                self._read(item)
            except DocumentError as err:
                self._failed.append(Failure(str(item.path), err.reason))
            except OSError as err:
                self._failed.append(Failure(str(item.path), f"cannot be read: {err.strerror or err}"))
            self._tell(Progress("read", 1))
            if self._waiting_bytes >= BATCH_BYTES or len(self._waiting) >= BATCH_DOCUMENTS:
                self._commit()
        self._commit()

    def remove_vanished(self, root: Path, found: Sequence[Found]) -> None:
        """Remove the documents that came from this directory and are not in it any more; with filters, only those whose file is gone."""
        folder = str(absolute_path(root))
        present = {str(item.path) for item in found}
        for stored in self._base.documents():
            if stored.root == folder and stored.path not in present and not (self._is_filtered and Path(stored.path).exists()):
                self._remove(stored.document_id)

    def finish(self) -> None:
        """Write the vector index (also what a killed process left waiting), drop what nothing uses."""
        if self._is_changed:
            self._base.collect_vectors()
        self._base.index.flush()
        discard_leftovers(self._base)

    def report(self) -> IngestReport:
        """Return what was done."""
        return IngestReport(
            added=self._counts["added"],
            updated=self._counts["updated"],
            unchanged=self._counts["unchanged"],
            removed=self._removed,
            failed=tuple(self._failed),
            chunks=self._chunks,
            embedded=self._embedded,
            sources=tuple(self._sources),
            documents=tuple(self._details.values()),
            empty=tuple(self._empty),
        )

    def _read(self, item: Found) -> None:
        size = item.path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise DocumentError(str(item.path), f"has {size:,} bytes, more than the limit of {MAX_FILE_BYTES:,}; split it")
        file = RawFile(self._source(item), item.path.read_bytes(), self._defaults)
        root = str(item.root) if item.root else ""
        stored = self._by_path.get(str(item.path))
        if stored is not None and item.root is None:
            root = stored.root
        if stored is not None and (stored.source, stored.root, stored.content_hash, stored.shape) == (
            file.source,
            root,
            file.content_hash,
            self._base.shape,
        ):
            self._counts["unchanged"] += 1
            return
        reader = reader_for(file)
        document = reader.read(file)
        origin = checkout.origin_of(item.path, file.data)
        if origin is not None:
            document = replace(document, front_matter={**document.front_matter, "checkout": origin.to_json()})
        if self._with_details:
            self._details[document.source] = describe(document, reader_name(reader), size)
        self._waiting.append(Incoming(document, str(item.path), root))
        self._waiting_bytes += size

    def _source(self, item: Found) -> str:
        """Return the file's name in the store: the one it has, else a short one that no other file has."""
        stored = self._by_path.get(str(item.path))
        if stored is not None:
            return stored.source
        source, parents = item.source, list((item.root or item.path).parents)
        while (
            source in self._by_source
            and self._by_source[source].path not in ("", str(item.path))
            and Path(self._by_source[source].path).exists()
        ):
            if not parents or not parents[0].name:
                break
            source = f"{parents.pop(0).name}/{source}"
        return source

    def _commit(self) -> None:
        if not self._waiting:
            return
        outcomes = self._base.add_documents(self._waiting, lambda number: self._tell(Progress("embedded", number)))
        for outcome in outcomes:
            self._counts[outcome.status] += 1
            self._embedded += outcome.num_embedded
            if outcome.source in self._details:
                self._details[outcome.source] = replace(self._details[outcome.source], num_chunks=outcome.num_chunks, status=outcome.status)
            if outcome.status != "unchanged":
                self._chunks += outcome.num_chunks
                self._sources.append(outcome.source)
                self._empty += [] if outcome.num_chunks else [outcome.source]
                self._is_changed = True
        for stored in self._base.documents():
            self._by_path[stored.path] = stored
            self._by_source[stored.source] = stored
        self._waiting, self._waiting_bytes = [], 0

    def _remove(self, document_id: str) -> None:
        with self._base.catalogue.write() as connection:
            if self._base.catalogue.remove_document(connection, document_id):
                self._removed += 1
                self._is_changed = True
