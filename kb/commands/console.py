"""How commands open the base, show progress and print: results go to stdout, progress and errors to stderr."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kb.store import KnowledgeBase

EXIT_NO, EXIT_MISUSE, EXIT_ENVIRONMENT = 1, 2, 3
QUIET_SECONDS = 15.0
"""How long a long ingestion says nothing where no terminal shows its progress."""


@contextlib.contextmanager
def open_base(home: Path | None, embedder: str | None = None, create: bool = False) -> Iterator[KnowledgeBase]:
    """Yield the base under `home`, else under the default home."""
    from kb.home import default_home
    from kb.store import KnowledgeBase

    with KnowledgeBase.open(home or default_home(), embedder=embedder, create=create) as base:
        yield base


def print_json(value: object) -> None:
    """Print a value as JSON."""
    print(json.dumps(value, ensure_ascii=False, indent=2, default=str))


@contextlib.contextmanager
def show_progress() -> Iterator[Any]:  # Any: the callback of kb_ingest.pipeline
    """Yield a callback that shows the progress of an ingestion: a live bar on a terminal, elsewhere a line now and then while it takes long."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Display

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[texts]} texts embedded"),
        TimeElapsedColumn(),
    )
    console = Console(stderr=True)
    with Display(*columns, console=console, transient=True, disable=not console.is_terminal) as display:
        task = display.add_task("reading", total=0, texts=0)
        totals = {"found": 0, "read": 0, "embedded": 0}
        told = time.monotonic()

        def on_progress(progress: Any) -> None:  # Any: kb_ingest.pipeline.Progress, imported by the command
            nonlocal told
            totals[progress.stage] += progress.number
            display.update(task, completed=totals["read"], total=totals["found"], texts=totals["embedded"])
            if not console.is_terminal and time.monotonic() - told > QUIET_SECONDS:
                told = time.monotonic()
                print(f"kb: {totals['read']} of {totals['found']} files read, {totals['embedded']} texts embedded", file=sys.stderr)

        yield on_progress
