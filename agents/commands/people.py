"""Commands for people beside a run: watch, note, pause, cancel, audit. Results go to stdout, errors to stderr."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated

import typer

from agents.commands.console import EXIT_NO, AsJson, Home, errors, home_of, print_json, stdout

group = typer.Typer()
RunId = Annotated[str, typer.Argument(help="Id of a run, or an unambiguous beginning.")]


@group.command(epilog="Examples: kevolve watch 261122-4f2a9c; kevolve watch 261122-4f2a9c --json | jq .kind")
def watch(
    run_id: RunId,
    follow: Annotated[bool, typer.Option(help="Wait for further events while a process drives the run.")] = True,
    every: Annotated[float, typer.Option(help="Seconds between two looks.")] = 0.5,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Print the events of a run as they come, one line each (with --json one object a line), until nobody drives it any more."""
    with errors():
        from agents.runs.store import RunStore

        with RunStore(home_of(home)) as store:
            run_id = store.run(run_id).run_id
            after = 0
            while True:
                is_driven = store.run(run_id).is_driven
                for event in store.events(run_id, after=after):
                    after = event.number
                    if as_json:
                        typer.echo(json.dumps({"number": event.number, "time": event.time, "kind": event.kind, **event.data}))
                    else:
                        when = time.strftime("%H:%M:%S", time.localtime(event.time))
                        typer.echo(f"{when} {event.kind} {_brief(dict(event.data))}")
                if not (follow and is_driven):
                    return
                time.sleep(every)


@group.command(epilog='Example: kevolve note 261122-4f2a9c "try split-K"')
def note(
    run_id: RunId, text: Annotated[str, typer.Argument(help="What the coder should know from the next round on.")], home: Home = None
) -> None:
    """Give a run that goes on a piece of advice."""
    _ask(run_id, "note", text, home, "the coder is told from the next round on")


@group.command(epilog="Example: kevolve pause 261122-4f2a9c")
def pause(run_id: RunId, home: Home = None) -> None:
    """Let a run stop before its next round; `kevolve resume` continues it."""
    _ask(run_id, "pause", "", home, "the run stops before its next round")


@group.command(epilog="Examples: kevolve cancel 261122-4f2a9c; kevolve cancel 261122-4f2a9c --node 3fa2")
def cancel(
    run_id: RunId,
    node: Annotated[str, typer.Option(help="Only take this node out of the search: it is not expanded any more.")] = "",
    why: Annotated[str, typer.Option(help="A reason, kept with the run.")] = "",
    home: Home = None,
) -> None:
    """End the search of a run early (its finalists are still measured again and published), or close one node."""
    if node:
        with errors():
            from agents.errors import UnknownNameError
            from agents.runs.store import RunStore

            with RunStore(home_of(home)) as store:
                owner, found = store.find_node(node)
                if not owner.startswith(run_id):
                    raise UnknownNameError(f"node {found.node_id} belongs to run {owner}, not to {run_id!r}")
        _ask(run_id, "close", found.node_id, home, f"node {found.node_id} is not expanded any more")
    else:
        _ask(run_id, "cancel", why, home, "the search ends before its next round")


@group.command(epilog="Example: kevolve audit 261122-4f2a9c")
def audit(run_id: RunId, home: Home = None, as_json: AsJson = False) -> None:
    """Check that a run hangs together: sources, receipts, statistics, totals, budget; exit code 1 if it does not."""
    with errors():
        from agents.runs.audit import audit as examine
        from agents.runs.store import RunStore

        with RunStore(home_of(home)) as store:
            record = store.run(run_id)
            wrong = examine(store, record)
            num_nodes = store.num_nodes(record.run_id)
        if as_json:
            print_json({"run_id": record.run_id, "nodes": num_nodes, "wrong": wrong})
        else:
            for line in wrong:
                typer.echo(line)
            typer.echo(f"run {record.run_id}: {num_nodes} nodes, {len(wrong)} things wrong")
        if wrong:
            raise typer.Exit(EXIT_NO)


def _ask(run_id: str, kind: str, text: str, home: Path | None, outcome: str) -> None:
    with errors():
        from agents.runs.store import RunStore

        with RunStore(home_of(home)) as store:
            record = store.run(run_id)
            store.ask(record.run_id, kind, text)
        state = "" if record.is_driven else f"; nobody drives it now, `kevolve resume {record.run_id}` does"
        stdout().print(f"run {record.run_id}: {outcome}{state}", highlight=False, soft_wrap=True, markup=False)


def _brief(data: dict[str, object]) -> str:
    return " ".join(f"{name}={str(value)[:80]}" for name, value in data.items() if isinstance(value, (str, int, float)) and value != "")
