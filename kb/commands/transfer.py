"""`kb export`, `kb import`: a whole base in one file."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from kb.commands.console import open_base, print_json
from kb.commands.options import EmbedderOption, HomeOption, JsonOption
from kb.errors import StoreError

group = typer.Typer()


@group.command(epilog="Examples: kb export knowledge.kb   |   kb export small.kb --without-vectors")
def export(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="The file to write.")],
    without_vectors: Annotated[bool, typer.Option("--without-vectors", help="Leave the vectors out; they are made at the import.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file if it is there.")] = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write documents, their past versions, winners, lessons and vectors into one file."""
    with open_base(home) as base:
        report = base.export(path, with_vectors=not without_vectors, overwrite=overwrite)
    if as_json:
        print_json(dataclasses.asdict(report))
    else:
        print(
            f"{report.documents} documents, {report.winners} winners, {report.lessons} lessons, {report.vectors} vectors; {report.size_bytes:,} bytes"
        )


@group.command("import", epilog="Examples: kb import knowledge.kb   |   kb import knowledge.kb --re-embed --embedder minilm-int8")
def import_(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="What `kb export` wrote.")],
    re_embed: Annotated[bool, typer.Option("--re-embed", help="Do not use the vectors in the file.")] = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
    embedder: EmbedderOption = None,
) -> None:
    """Take in what `kb export` wrote, all of it or nothing; a new base takes the file's embedder."""
    from kb.bundle import Bundle, recorded_spec

    chosen = embedder
    if _is_new(home):
        with Bundle.open(path):
            pass  # a file that cannot be used leaves no empty base behind
        if embedder is None and not re_embed:
            chosen = recorded_spec(path)
    with open_base(home, chosen, create=True) as base:
        report = base.import_(path, re_embed=re_embed)
    if as_json:
        print_json(dataclasses.asdict(report))
    else:
        print(
            f"{report.added} added, {report.updated} updated, {report.unchanged} unchanged; {report.chunks} chunks, {report.embedded} embedded; "
            f"{report.winners} winners, {report.lessons} lessons"
        )


def _is_new(home: Path | None) -> bool:
    try:
        with open_base(home) as base:
            return base.recorded_embedder()["name"] == ""
    except StoreError:
        return True  # or it cannot be opened, which the import then says
