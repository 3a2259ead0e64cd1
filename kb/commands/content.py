"""`kb ingest`, `kb remove`: what goes in and out."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from kb.commands.console import EXIT_NO, open_base, print_json, show_progress
from kb.commands.options import BaseUrlOption, EmbedderOption, HomeOption, JsonOption, embedder_at

group = typer.Typer()


@group.command(epilog="Examples: kb ingest docs/   |   kb ingest manual.md notes.txt --targets nvidia --json")
def ingest(
    paths: Annotated[list[Path], typer.Argument(help="Files and directories.")],
    home: HomeOption = None,
    as_json: JsonOption = False,
    embedder: EmbedderOption = None,
    base_url: BaseUrlOption = None,
    include: Annotated[
        list[str] | None, typer.Option("--include", help="In directories, only files matching this .gitignore pattern. Repeatable.")
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option("--exclude", help="In directories, leave out files matching this pattern. Repeatable.")
    ] = None,
    targets: Annotated[list[str] | None, typer.Option("--targets", help="Targets of files that state none. Repeatable.")] = None,
    kind: Annotated[str | None, typer.Option("--kind", help="Kind of files that state none.")] = None,
    trust: Annotated[str | None, typer.Option("--trust", help="Trust of files that state none.")] = None,
    report_file: Annotated[
        Path | None,
        typer.Option("--report", help="Write what became of each document to this JSON file: sections, tables, code, what was lost."),
    ] = None,
) -> None:
    """Bring files and directories in; what did not change is not embedded again."""
    from kb_ingest.pipeline import ingest as run_ingest

    defaults = {name: value for name, value in (("targets", targets), ("kind", kind), ("trust", trust)) if value}
    with open_base(home, embedder_at(embedder, base_url), create=True) as base, show_progress() as on_progress:
        report = run_ingest(
            paths,
            base,
            include=include or (),
            exclude=exclude or (),
            defaults=defaults,
            on_progress=on_progress,
            with_details=report_file is not None,
        )
    if report_file is not None:
        report_file.write_text(json.dumps(report.to_details(), ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    for failure in report.failed:
        print(f"kb: not taken in: {failure.path}: {failure.reason}", file=sys.stderr)
    for source in report.empty:
        print(f"kb: no text found in {source}: it is in the base, but no question finds it", file=sys.stderr)
    if as_json:
        print_json(report.to_json())
    else:
        counts = report.to_json()["documents"]
        print(", ".join(f"{number} {name}" for name, number in counts.items()) + f"; {report.chunks} chunks, {report.embedded} embedded")
    if report.failed:
        raise typer.Exit(EXIT_NO)


@group.command(epilog="Examples: kb remove docs/old.md   |   kb remove docs/old/ --prefix")
def remove(
    source: Annotated[str, typer.Argument(help="Source or id of a document; with --prefix, the beginning of sources.")],
    prefix: Annotated[bool, typer.Option("--prefix", help="Remove every document whose source begins with SOURCE.")] = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take a document out of the base, from every index at once."""
    with open_base(home) as base:
        names = [stored.source for stored in base.documents() if prefix and stored.source.startswith(source)] if prefix else [source]
        removed = [name for name in names if base.remove(name)]
    if as_json:
        print_json({"removed": removed})
    else:
        print(f"{len(removed)} removed")
    if not removed:
        print(f"kb: no document {source!r}; `kb tree` lists the sources", file=sys.stderr)
        raise typer.Exit(EXIT_NO)
