"""The command `kevolve compare`. The report goes to stdout, progress and errors to stderr."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from agents.commands.console import EXIT_INTERRUPTED, AsJson, Home, KernelBench, errors, fail, home_of, print_json, stderr

group = typer.Typer()


@group.command(
    epilog="Example: kevolve compare --strategies one_shot,linear,greedy,mcts,evolutionary --problems examples --seeds 5 "
    "--budget-evaluations 8 --quick --target cpu --out comparison"
)
def compare(
    strategies: Annotated[str, typer.Option(help="Names separated by commas.")] = "one_shot,linear,greedy,mcts,evolutionary",
    problems: Annotated[str, typer.Option(help="As for `kevolve run`, separated by commas; `examples`: all of them.")] = "examples",
    seeds: Annotated[int, typer.Option(help="So many seeds, from 0.")] = 5,
    budget_evaluations: Annotated[int, typer.Option(help="Most evaluations of each search, re-measurements included.")] = 8,
    reference: Annotated[str, typer.Option(help="The strategy that the others are compared with.")] = "one_shot",
    target: Annotated[str, typer.Option(help="As for `kevolve run`.")] = "auto",
    coder: Annotated[str, typer.Option(help="As for `kevolve run`.")] = "library",
    quick: Annotated[
        bool, typer.Option("--quick", help="Fewer timing pairs and one value check a measurement: less certain, faster.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="Directory of records, report and plots; default: comparison in the state directory.")
    ] = None,
    kernelbench: KernelBench = None,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Compare strategies at equal budget; what the records already hold is not made again, so an interrupted comparison goes on."""
    with errors():
        import dataclasses

        from agents.config import RunConfig
        from agents.errors import OptionError
        from agents.runs.store import RunStore
        from agents.types import Budget
        from agents.workbench import resolve_target, workbench
        from evaluation.comparison import Plan
        from evaluation.comparison import compare as make
        from evaluation.comparison_report import ratio, write
        from tools.problems import load_problem, suite_problems
        from tools.types import QUICK

        names = tuple(name.strip() for name in strategies.split(","))
        if reference not in names:
            raise OptionError(f"the reference {reference!r} is not among the strategies: {', '.join(names)}")
        if problems == "examples":
            chosen = tuple(suite_problems("examples", (), kernelbench_root=kernelbench))
        else:
            chosen = tuple(load_problem(name.strip(), kernelbench_root=kernelbench) for name in problems.split(","))
        place = home_of(home)
        folder = out or place / "comparison"
        exact = resolve_target(target)
        config = RunConfig(coder=coder, budget=Budget(budget_evaluations), finalists=1 if budget_evaluations > 1 else 0)
        plan = Plan(names, chosen, seeds, exact, config, folder / "searches.jsonl")
        effort = dataclasses.replace(QUICK, pairs=6, value_seeds=1, min_block_ms=3.0) if quick else None
        try:
            with RunStore(place) as store, workbench(place, exact, config, lambda _: None) as machinery:
                found = make(plan, store, machinery, effort, lambda line: stderr().print(line, highlight=False, markup=False))
        except KeyboardInterrupt:
            fail(f"interrupted; records so far are in {plan.results}. The same command goes on", EXIT_INTERRUPTED)
        files = write(found, folder, reference, " ".join(["kevolve", *sys.argv[1:]]))
        if as_json:
            from evaluation.comparison import paired

            ratios = {name: dataclasses.asdict(ratio(paired(found, name, reference))) for name in names}
            print_json({"files": [str(path) for path in files], "searches": len(found), "ratio_to_reference": ratios})
        else:
            sys.stdout.write(files[0].read_text(encoding="utf-8"))
