"""`kb retire`, `kb conflicts`: what no longer holds, and what cannot all hold."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from typing import Annotated

import typer

from kb.commands.console import EXIT_NO, open_base, print_json
from kb.commands.options import HomeOption, JsonOption

group = typer.Typer()


@group.command(
    epilog="Examples: kb retire   |   kb retire docs/old.md --by docs/new.md   |   kb retire lesson:9f2c4a7d01b3e586 --reason 'compiler fixed'   |   kb retire docs/old.md --undo"
)
def retire(
    source: Annotated[str | None, typer.Argument(help="Source or id of a document, lesson:ID or winner:ID; without it, list.")] = None,
    by: Annotated[str, typer.Option("--by", help="Source of the document that holds instead.")] = "",
    reason: Annotated[str, typer.Option("--reason", help="Why, for people.")] = "",
    undo: Annotated[bool, typer.Option("--undo", help="Make the document current again.")] = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Hide what no longer holds from every query; it stays in the base with its history. Without SOURCE: list what is hidden."""
    with open_base(home) as base:
        if source is None:
            _list(dict(base.statuses()), as_json)
            return
        if undo:
            is_changed = base.reinstate(source)
        else:
            base.retire(source, successor=by, reason=reason)
            is_changed = True
    if as_json:
        print_json({"source": source, "changed": is_changed})
    else:
        print(f"{source}: {'current again' if undo and is_changed else 'was current already' if undo else 'hidden from queries'}")
    if not is_changed:
        raise typer.Exit(EXIT_NO)


def _list(statuses: dict[str, object], as_json: bool) -> None:
    if as_json:
        print_json(statuses)
        return
    for source, values in statuses.items():
        assert isinstance(values, dict)
        successor = f" by {values['successor']}" if values["successor"] else ""
        reason = f": {values['reason']}" if values["reason"] else ""
        print(f"{source}  {values['status']}{successor} since {datetime.fromtimestamp(values['since'], UTC):%Y-%m-%d}{reason}")
    if not statuses:
        print("everything is current")


@group.command(epilog="Examples: kb conflicts   |   kb conflicts --json")
def conflicts(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """List where two documents give different numbers for one thing and one target; exit code 1 if nowhere."""
    from kb.conflicts import conflict_lines

    with open_base(home) as base:
        found = base.conflicts()
    if as_json:
        print_json([dataclasses.asdict(conflict) for conflict in found])
    else:
        print("\n".join(conflict_lines(found)) if found else "no conflict found")
    if not found:
        raise typer.Exit(EXIT_NO)
