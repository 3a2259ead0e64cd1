"""Keeps a base in step with a directory: what is written, moved or deleted there is in the base moments later."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from kb.errors import DocumentError, StoreError
from kb.store import KnowledgeBase
from kb_ingest.pipeline import IngestReport, ingest

log = logging.getLogger(__name__)

DEBOUNCE_MS = 500
"""A change is taken in when nothing more has changed for so long, so that half-written files are not read."""
LONGEST_WAIT_MS = 10_000
"""Under steady changes the base is brought up to date at least this often."""


def watch(
    folders: Sequence[str | Path],
    base: KnowledgeBase,
    *,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    defaults: Mapping[str, Any] | None = None,  # Any: front matter values
    on_report: Callable[[IngestReport], None] | None = None,
    stop: threading.Event | None = None,
    debounce_ms: int = DEBOUNCE_MS,
) -> None:
    """Ingest the directories, then again after each burst of changes, until `stop` is set.

    What changed is found by the ingestion itself, so a change that the system did not report is taken in with the next one, and a move costs no embedding.
    Every ingestion is a series of transactions: stopped at any point, the base is consistent and the next start completes it.

    Args:
        folders: Directories.
        base: Where they go.
        include: See `kb_ingest.walk.walk`.
        exclude: See `kb_ingest.walk.walk`.
        defaults: Metadata for files without front matter.
        on_report: Called after each ingestion that found something.
        stop: Ends the watch.
        debounce_ms: Quiet time after a change.

    Raises:
        DocumentError: A directory does not exist, at the start or any more.
        StoreError: The store cannot be used, also not on a second try.
    """
    from watchfiles import watch as changes

    chosen = [Path(folder) for folder in folders]
    for folder in chosen:
        if not folder.is_dir():
            raise DocumentError(str(folder), "no such directory; give directories to watch")
    tell = on_report or (lambda report: None)

    def take() -> None:
        for folder in chosen:
            if not folder.is_dir():
                raise DocumentError(str(folder), "the directory is gone; nothing was removed from the base")
        report = ingest(chosen, base, include=include, exclude=exclude, defaults=defaults)
        if report.added or report.updated or report.removed or report.failed:
            tell(report)

    take()
    ended = stop or threading.Event()
    is_first = True
    for found in changes(
        *chosen,
        debounce=LONGEST_WAIT_MS,
        step=debounce_ms,
        stop_event=ended,
        rust_timeout=1000,
        yield_on_timeout=True,
        raise_interrupt=True,
    ):
        if found or is_first:  # the first time also what changed while nobody was watching yet
            try:
                take()
            except StoreError as err:  # for example, another process was writing for long
                log.warning("%s; once more", err)
                take()
        is_first = False
