"""`kb watch`: the base follows a directory."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kb.commands.console import open_base
from kb.commands.options import EmbedderOption, HomeOption, JsonOption

if TYPE_CHECKING:
    from kb_ingest.pipeline import IngestReport

group = typer.Typer()


@group.command(epilog="Examples: kb watch docs/   |   kb watch notes/ manuals/ --exclude 'drafts/' --targets nvidia")
def watch(
    folders: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Directories.")],
    include: Annotated[list[str] | None, typer.Option("--include", help="Only files matching this .gitignore pattern. Repeatable.")] = None,
    exclude: Annotated[list[str] | None, typer.Option("--exclude", help="Leave out files matching this pattern. Repeatable.")] = None,
    targets: Annotated[list[str] | None, typer.Option("--targets", help="Targets of files that state none. Repeatable.")] = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
    embedder: EmbedderOption = None,
) -> None:
    """Ingest directories and keep the base in step with them until Ctrl-C: edits, moves and deletions are followed."""
    from kb_ingest.watch import watch as run_watch

    def tell(report: IngestReport) -> None:
        for failure in report.failed:
            print(f"kb: not taken in: {failure.path}: {failure.reason}", file=sys.stderr)
        if as_json:
            print(json.dumps(report.to_json(), ensure_ascii=False), flush=True)
        else:
            counts = report.to_json()["documents"]
            print(", ".join(f"{number} {name}" for name, number in counts.items()) + f"; {report.embedded} embedded", flush=True)

    defaults = {"targets": targets} if targets else {}
    with open_base(home, embedder, create=True) as base:
        print("kb: watching; Ctrl-C ends it", file=sys.stderr, flush=True)
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # what a service manager sends ends it as Ctrl-C does
        try:
            run_watch(folders, base, include=include or (), exclude=exclude or (), defaults=defaults, on_report=tell)
        except KeyboardInterrupt:
            print("kb: stopped; everything taken in so far stays", file=sys.stderr)
