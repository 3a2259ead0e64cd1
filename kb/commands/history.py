"""`kb history`, `kb diff`: how a document changed."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from typing import Annotated

import typer

from kb.commands.console import EXIT_NO, open_base, print_json
from kb.commands.options import HomeOption, JsonOption

group = typer.Typer()

DocumentArgument = Annotated[str, typer.Argument(metavar="DOC", help="Source or id of a document; removed ones are known too.")]


@group.command(epilog="Examples: kb history docs/nvidia/h100.md   |   kb history docs/old.md --json")
def history(document: DocumentArgument, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Print the versions of a document, newest first."""
    with open_base(home) as base:
        versions = base.history(document)
    if as_json:
        print_json([dataclasses.asdict(version) for version in versions])
        return
    for version in versions:
        when = (
            "current"
            if version.ended_at is None
            else f"{version.ended} {datetime.fromtimestamp(version.ended_at, UTC):%Y-%m-%d %H:%M:%S} UTC"
        )
        print(f"{version.version}  {version.content_hash[:12]}  {when}{'' if version.has_text else '  (text not kept)'}")


@group.command(
    epilog="Examples: kb diff docs/nvidia/h100.md   |   kb diff docs/nvidia/h100.md 1 3   |   kb diff docs/nvidia/h100.md 2 --json"
)
def diff(
    document: DocumentArgument,
    before: Annotated[int | None, typer.Argument(metavar="[A]", min=1, help="A version (default: the one before B).")] = None,
    after: Annotated[int | None, typer.Argument(metavar="[B]", min=1, help="A version (default: the newest).")] = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print which sections were added, removed, edited or moved between two versions; exit code 1 if none."""
    with open_base(home) as base:
        changes = base.diff(document, before, after)
    if as_json:
        print_json([{**dataclasses.asdict(change), "lines": change.lines()} for change in changes])
    else:
        for change in changes:
            former = f"  (was {' > '.join(change.former_path)})" if change.former_path else ""
            print(f"{change.change}: {' > '.join(change.path)}{former}")
            if change.change != "moved":
                print("\n".join(f"   {line}" for line in change.lines()))
        if not changes:
            print("no difference")
    if not changes:
        raise typer.Exit(EXIT_NO)
