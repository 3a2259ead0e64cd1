"""Commands that make training data: trajectories."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from agents.commands.console import Home, errors, home_of

group = typer.Typer()


@group.command(
    epilog="Examples: kevolve trajectories 261122-4f2a9c --format sft > paths.jsonl; kevolve trajectories 261122-4f2a9c 261123-a1b2c3 --format dpo --out pairs.jsonl"
)
def trajectories(
    run_ids: Annotated[list[str], typer.Argument(help="Ids of runs.", metavar="RUN...")],
    form: Annotated[
        str, typer.Option("--format", help="sft (paths), dpo (pairs of siblings) or grpo (groups of siblings with rewards).")
    ] = "sft",
    margin: Annotated[float, typer.Option(help="For dpo: least difference of fitness.")] = 0.05,
    least_fitness: Annotated[float, typer.Option(help="For sft: paths end at nodes above this fitness.")] = 0.0,
    licence: Annotated[str, typer.Option(help="Written into every row.")] = "",
    out: Annotated[Path | None, typer.Option(help="A new file; default: stdout.")] = None,
    home: Home = None,
) -> None:
    """Write training data from recorded runs as JSON lines that TRL and datasets load; rewards are measured fitnesses."""
    with errors():
        from agents.errors import OptionError
        from agents.runs.store import RunStore
        from agents.trajectories import FORMATS, UNSTATED, TrajectoryOptions, rows_of

        chosen = next((known for known in FORMATS if known == form), None)
        if chosen is None:
            raise OptionError(f"unknown format {form!r}; known: {', '.join(FORMATS)}")
        if out is not None and out.exists():
            raise OptionError(f"{out} is there already; choose a new file")
        options = TrajectoryOptions(chosen, margin, least_fitness, licence or UNSTATED)
        with RunStore(home_of(home)) as store:
            lines = [json.dumps(row) for row in rows_of(store, run_ids, options)]
        text = "".join(f"{line}\n" for line in lines)
        if out is None:
            sys.stdout.write(text)
        else:
            try:
                out.write_text(text, encoding="utf-8")
            except OSError as error:
                raise OptionError(f"{out} cannot be written: {error.strerror}") from error
        typer.echo(f"{len(lines)} rows", err=True)
