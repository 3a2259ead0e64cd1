"""Commands that look at runs: runs, show, export. Results go to stdout, progress and errors to stderr."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agents.commands.console import AsJson, Home, errors, home_of, print_json, stdout

if TYPE_CHECKING:
    from agents.runs.records import RunRecord
    from agents.show import LineageStep

group = typer.Typer()


@group.command(epilog="Example: kevolve runs --limit 5")
def runs(limit: Annotated[int, typer.Option(help="Latest so many.")] = 20, home: Home = None, as_json: AsJson = False) -> None:
    """List runs, latest first."""
    with errors():
        from agents.runs.store import RunStore
        from agents.show import run_to_json

        with RunStore(home_of(home)) as store:
            records = store.runs(limit)
        if as_json:
            print_json({"runs": [run_to_json(record) for record in records]})
            return
        from rich.box import SIMPLE_HEAD
        from rich.table import Column, Table
        from rich.text import Text

        columns = ("problem", "target", "strategy", "coder", Column("best", no_wrap=True), Column("started", no_wrap=True))
        table = Table(Column("run", no_wrap=True), Column("status", no_wrap=True), *columns, box=SIMPLE_HEAD, pad_edge=False)
        for record in records:
            table.add_row(
                record.run_id,
                _status_text(record),
                Text(record.problem.problem_id),
                record.target,
                record.strategy,
                record.coder,
                _best_text(record),
                time.strftime("%m-%d %H:%M", time.localtime(record.created)),
            )
        stdout().print(table if records else "no runs yet; `kevolve run PROBLEM` starts one")


@group.command(epilog="Examples: kevolve show 261122-4f2a9c --svg graph.svg; kevolve show 261122-4f2a9c --lineage; kevolve show NODE")
def show(
    what: Annotated[str, typer.Argument(help="Id of a run or of a node, or an unambiguous beginning.")],
    svg: Annotated[Path | None, typer.Option(help="Write the graph of a run as a picture to this file.")] = None,
    dot: Annotated[Path | None, typer.Option(help="Write the graph of a run for Graphviz to this file.")] = None,
    lineage: Annotated[
        bool, typer.Option("--lineage", help="Show the way to the winner: the diff and the measured effect of every step.")
    ] = False,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Show a run as a graph with its outcome, or a node with its source and the way to it."""
    with errors():
        from agents.drawing import best_so_far, sparkline, to_dot, to_svg
        from agents.errors import UnknownNameError
        from agents.runs.store import RunStore
        from agents.show import lineage_steps, node_to_json, outcome_paths, outcome_table, run_to_json, run_tree, simulated_note

        console = stdout()
        with RunStore(home_of(home)) as store:
            record: RunRecord | None
            try:
                record = store.run(what)
            except UnknownNameError as error:
                record = None
                try:
                    owner, node = store.find_node(what)
                except UnknownNameError:
                    raise UnknownNameError(f"{error}. No node begins with it either") from error
            if record is not None:
                nodes = store.nodes(record.run_id)
                spent = store.spent(record.run_id)
                title = f"run {record.run_id}: {record.problem.problem_id} on {record.target}, {record.strategy}, seed {record.seed}{simulated_note(record)}"
                for path, draw in ((svg, to_svg), (dot, to_dot)):
                    if path is not None:
                        _write(path, draw(nodes, title))
                if as_json:
                    events = [
                        {"kind": event.kind, **event.data}
                        for event in store.events(record.run_id)
                        if event.kind in ("planned", "stopped", "remeasured", "written_back")
                    ]
                    print_json(
                        {
                            **run_to_json(record),
                            "num_evaluations": spent.evaluations,
                            "nodes": [node_to_json(item) for item in nodes],
                            "best_so_far": best_so_far(nodes),
                            "events": events,
                        }
                    )
                    return
                if lineage:
                    published = record.result["best"] if record.result else None
                    best = max(nodes, key=lambda item: item.fitness, default=None)
                    if best is None:
                        raise UnknownNameError(f"run {record.run_id} has no node yet")
                    _print_steps(lineage_steps(nodes, published["node_id"] if published else best.node_id))
                    return
                console.print(run_tree(record, nodes))
                if curve := sparkline(best_so_far(nodes)):
                    console.print(
                        f"best so far  {curve}  {best_so_far(nodes)[-1]:.3f}×{' simulated' if simulated_note(record) else ''}",
                        highlight=False,
                    )
                if record.result is not None:
                    console.print(outcome_table(record.result))
                    for line in outcome_paths(record.result):
                        typer.echo(line)
                else:
                    state = "is running" if record.is_driven else f"is not finished; `kevolve resume {record.run_id}` continues it"
                    console.print(f"the run {state}: {spent.evaluations} evaluations, {record.seconds:.0f} s", highlight=False)
                return
            steps = lineage_steps(store.nodes(owner), node.node_id)
            if as_json:
                way = [{"node_id": step.node.node_id, "fitness": step.node.fitness, "gain": step.gain, "diff": step.diff} for step in steps]
                print_json({"run_id": owner, **node_to_json(node), "source": node.candidate.source, "lineage": way})
                return
            from rich.syntax import Syntax

            _print_steps(steps)
            console.print(Syntax(node.candidate.source, "python", background_color="default"))
            if node.evaluation.reason:
                console.print(node.evaluation.reason, markup=False, highlight=False)


@group.command(epilog="Example: kevolve export 261122-4f2a9c ./winner")
def export(
    run_id: Annotated[str, typer.Argument(help="Id of a finished run.")],
    directory: Annotated[Path, typer.Argument(help="A new or empty directory.")],
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Write the winner of a run as a package: source, problem, receipt, result, README."""
    with errors():
        from agents.export import export_winner
        from agents.runs.store import RunStore

        with RunStore(home_of(home)) as store:
            files = export_winner(store, store.run(run_id), directory)
        if as_json:
            print_json({"directory": str(directory), "files": [str(path) for path in files]})
        else:
            for path in files:
                typer.echo(path)


def _print_steps(steps: Sequence[LineageStep]) -> None:
    from rich.syntax import Syntax

    from tools.types import Evidence

    console = stdout()
    for step in steps:
        gain = f", {step.gain:.3f} times its parent" if step.gain else ""
        told = f"{step.node.evaluation.status.value}, fitness {step.node.fitness:.3f}"
        told += f" ({step.node.evaluation.evidence.value})" if step.node.evaluation.evidence is not Evidence.MEASURED else ""
        console.rule(f"{step.node.node_id}: {told}{gain}")
        console.print(step.node.notes, markup=False, highlight=False)
        if step.diff:
            console.print(Syntax(step.diff, "diff", background_color="default"))


def _write(path: Path, text: str) -> None:
    from agents.errors import OptionError

    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OptionError(f"cannot write {path}: {error.strerror}") from error


def _status_text(record: RunRecord) -> str:
    if record.is_driven:
        return "running"
    return str(record.result["status"]).replace("_", " ") if record.result else "resumable"


def _best_text(record: RunRecord) -> str:
    best = record.result.get("best") if record.result else None
    simulated = " simulated" if best and best["evidence"] == "simulated" else ""
    return f"{best['fitness']:.2f}×{simulated}" if best else ""
