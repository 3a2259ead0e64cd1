"""`kb embedder`: which model makes the vectors, and changing it."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kb.commands.console import EXIT_NO, open_base, print_json
from kb.commands.options import BaseUrlOption, HomeOption, JsonOption, embedder_at

if TYPE_CHECKING:
    from kb.store import KnowledgeBase

group = typer.Typer()


@group.command(
    epilog="Examples: kb embedder   |   kb embedder minilm-int8   |   kb embedder openai-compatible:bge-m3 --base-url http://localhost:8080/v1 --background"
)
def embedder(
    name: Annotated[str | None, typer.Argument(help="The embedder to change to; without it, say which one it is.")] = None,
    base_url: BaseUrlOption = None,
    background: Annotated[bool, typer.Option("--background", help="Do it in a process of its own and return at once.")] = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the embedder, or change it: everything is embedded anew while queries go on with the former one, then the base switches at once."""
    spec = embedder_at(name, base_url)
    with open_base(home) as base:
        if spec is None:
            _show(base, as_json)
        elif background:
            _start(base, spec)
        else:
            _change(base, spec, as_json)


def _show(base: KnowledgeBase, as_json: bool) -> None:
    state = base.change_state()
    recorded = base.recorded_embedder()
    if as_json:
        print_json({"embedder": recorded, "change": dataclasses.asdict(state) if state else None})
        return
    print(f"{recorded['spec'] or recorded['name'] or 'none yet'}  dimension {recorded['dimension'] or '-'}")
    if state is not None:
        print(
            f"changing to {state.spec or state.name}: {state.done} of {state.total} texts; `kb embedder {state.spec or 'NAME'}` goes on if it was stopped"
        )


def _start(base: KnowledgeBase, spec: str) -> None:
    from kb.embedders.registry import make_embedder

    make_embedder(spec)  # a wrong name is an error here, not in the log
    log = base.home / "kb" / "embedder.log"
    command = [sys.executable, "-m", "kb.cli", "embedder", spec, "--home", str(base.home)]
    with log.open("ab") as stream:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, start_new_session=True, cwd=Path.cwd())
    print(f"started as process {process.pid}; `kb embedder` shows how far it is, {log} what it says")


def _change(base: KnowledgeBase, spec: str, as_json: bool) -> None:
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as display:
        task = display.add_task("embedding", total=None)
        change = base.change_embedder(spec, progress=lambda done, total: display.update(task, completed=done, total=total))
    if as_json:
        print_json(dataclasses.asdict(change))
    else:
        print(f"{change.name}, dimension {change.dimension}: {change.embedded} texts embedded, {change.recut} documents cut anew")
    if not change.switched:
        raise typer.Exit(EXIT_NO)
