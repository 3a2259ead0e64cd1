"""The command `kevolve compare`. The report goes to stdout, progress and errors to stderr."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agents.commands.console import EXIT_INTERRUPTED, AsJson, Home, KernelBench, errors, fail, home_of, print_json, stderr

if TYPE_CHECKING:
    from agents.config import RunConfig
    from evaluation.comparison import Search
    from tools.types import Problem

group = typer.Typer()
SEARCHES = "searches.jsonl"


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
    write_list: Annotated[
        Path | None,
        typer.Option(
            help="Only write the candidates that the coder can come to into this .jsonl.gz file, for `python -m evaluation.measuring`."
        ),
    ] = None,
    candidates: Annotated[int, typer.Option(min=1, help="With --write-list: most candidates of each problem.")] = 24,
    listed: Annotated[Path | None, typer.Option(help="With --recorded: the list that was measured.")] = None,
    recorded: Annotated[
        Path | None,
        typer.Option(
            help="Search on the measurements of this file: the problems are the list's, nothing is measured, no device is needed."
        ),
    ] = None,
    kernelbench: KernelBench = None,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Compare strategies at equal budget; what the records already hold is not made again, so an interrupted comparison goes on."""
    with errors():
        from agents.config import RunConfig
        from agents.errors import OptionError
        from agents.types import Budget
        from evaluation.comparison_report import write

        if (listed is None) != (recorded is None) or (recorded is not None and write_list is not None):
            raise OptionError(
                "--listed and --recorded are given together, and not with --write-list, which comes before anything is measured"
            )
        names = tuple(name.strip() for name in strategies.split(","))
        if reference not in names:
            raise OptionError(f"the reference {reference!r} is not among the strategies: {', '.join(names)}")
        place = home_of(home)
        folder = out or place / "comparison"
        config = RunConfig(coder=coder, budget=Budget(budget_evaluations), finalists=1 if budget_evaluations > 1 else 0)
        if write_list is not None:
            _write_list(_problems(problems, kernelbench), target, config, place, write_list, candidates)
            return
        try:
            if listed is not None and recorded is not None:
                found = _search_records(names, seeds, config, folder / SEARCHES, listed, recorded, place)
            else:
                found = _search(names, _problems(problems, kernelbench), seeds, target, config, folder / SEARCHES, place, quick)
        except KeyboardInterrupt:
            fail(f"interrupted; records so far are in {folder / SEARCHES}. The same command goes on", EXIT_INTERRUPTED)
        files = write(found, folder, reference, " ".join(["kevolve", *sys.argv[1:]]))
        if as_json:
            import dataclasses

            from evaluation.comparison import paired
            from evaluation.comparison_report import ratio

            ratios = {name: dataclasses.asdict(ratio(paired(found, name, reference))) for name in names}
            print_json({"files": [str(path) for path in files], "searches": len(found), "ratio_to_reference": ratios})
        else:
            sys.stdout.write(files[0].read_text(encoding="utf-8"))


def _problems(text: str, kernelbench: Path | None) -> tuple[Problem, ...]:
    from tools.problems import load_problem, suite_problems

    if text == "examples":
        return tuple(suite_problems("examples", (), kernelbench_root=kernelbench))
    return tuple(load_problem(name.strip(), kernelbench_root=kernelbench) for name in text.split(","))


def _say(line: str) -> None:
    stderr().print(line, highlight=False, markup=False)


def _write_list(problems: Sequence[Problem], target: str, config: RunConfig, home: Path, path: Path, most: int) -> None:
    from agents.workbench import workbench
    from evaluation.listing import list_candidates, write_list
    from tools.targets.registry import get_target

    exact = get_target(target).describe().name
    with workbench(home, exact, config, lambda _: None) as machinery:
        lists = ((problem, list_candidates(machinery.coder, machinery.base, problem, exact, most)) for problem in problems)
        count = write_list(path, lists)
    _say(f"{count} candidates of {len(problems)} problems in {path}")


def _search(
    names: tuple[str, ...],
    problems: tuple[Problem, ...],
    seeds: int,
    target: str,
    config: RunConfig,
    results: Path,
    home: Path,
    quick: bool,
) -> list[Search]:
    """Measure whatever the searches ask for."""
    import dataclasses

    from agents.runs.store import RunStore
    from agents.workbench import resolve_target, workbench
    from evaluation.comparison import Plan, compare
    from tools.types import QUICK

    exact = resolve_target(target)
    effort = dataclasses.replace(QUICK, pairs=6, value_seeds=1, min_block_ms=3.0) if quick else None
    plan = Plan(names, problems, seeds, exact, config, results)
    with RunStore(home) as store, workbench(home, exact, config, lambda _: None) as machinery:
        return compare(plan, store, machinery, effort, _say)


def _search_records(
    names: tuple[str, ...], seeds: int, config: RunConfig, results: Path, listed: Path, recorded: Path, home: Path
) -> list[Search]:
    """Measure nothing: answer the searches from records."""
    import dataclasses

    from agents.driver import Machinery
    from agents.errors import OptionError
    from agents.runs.store import RunStore
    from evaluation.comparison import Plan, compare
    from evaluation.listing import read_list
    from evaluation.recorded import ListedCoder, RecordedEvaluator, Recording

    lists, recording = read_list(listed), Recording(recorded)
    for line in recording.missing(lists):
        _say(line)
    problems = tuple(problem for problem, items in lists if any(recording.of(problem, item.source_hash) for item in items))
    if not problems:
        raise OptionError(f"{recorded} holds no measurement of what {listed} lists")
    config = dataclasses.replace(config, coder="listed", use_knowledge=False)
    machinery = Machinery(ListedCoder(lists, recording), RecordedEvaluator(recording), lint=lambda _: ())
    plan = Plan(names, problems, seeds, recording.target, config, results)
    with RunStore(home) as store:
        return compare(plan, store, machinery, None, _say, recording)
