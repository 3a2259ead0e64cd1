"""Commands that search: run, bench, resume. Results go to stdout, progress and errors to stderr."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agents.commands.console import (
    EXIT_INTERRUPTED,
    EXIT_NO,
    AsJson,
    Home,
    KernelBench,
    errors,
    exit_code,
    fail,
    home_of,
    print_json,
    stderr,
    stdout,
)

if TYPE_CHECKING:
    from agents.config import RunConfig
    from agents.runs.store import RunStore

group = typer.Typer()


@group.command(
    epilog="Examples: kevolve run examples/masked_softmax.py --budget-evaluations 20; "
    "kevolve run kernelbench:1/40 --kernelbench ~/KernelBench --target cuda --strategy mcts --seed 1"
)
def run(
    problem: Annotated[str, typer.Argument(help="A KernelBench-format file, kernelbench:LEVEL/NUMBER, or examples/NAME.")],
    target: Annotated[
        str,
        typer.Option(
            help="auto, cpu, cuda, or an exact one such as cuda:sm_90; mtia:2i and others that `kevolve targets` calls simulated are searched by simulated time."
        ),
    ] = "auto",
    strategy: Annotated[str, typer.Option(help="one_shot, linear, greedy, mcts or evolutionary.")] = "greedy",
    option: Annotated[list[str] | None, typer.Option("--strategy-option", help="NAME=NUMBER for the strategy; may be repeated.")] = None,
    coder: Annotated[
        str, typer.Option(help="library (kernels of the knowledge base), llm (a chat model) or reference (a control).")
    ] = "library",
    model: Annotated[str, typer.Option(help="For the llm coder: provider:name, openai-compatible, spool:DIR or replay:FILE.")] = "",
    base_url: Annotated[str, typer.Option(help="Address of an OpenAI-compatible server.")] = "",
    model_id: Annotated[str, typer.Option(help="The model's name at that server (default: the first it lists).")] = "",
    models: Annotated[Path | None, typer.Option(help="Models (YAML) of: coder, planner, diagnosis, deep_search, reflection.")] = None,
    budget_evaluations: Annotated[
        int | None, typer.Option(help="Most evaluations, finalists' re-measurements included. Default: 30.")
    ] = None,
    budget_seconds: Annotated[float | None, typer.Option(help="Most seconds of wall time.")] = None,
    budget_tokens: Annotated[int | None, typer.Option(help="Most tokens of the chat model.")] = None,
    budget_dollars: Annotated[float | None, typer.Option(help="Most dollars for the chat model.")] = None,
    seed: Annotated[int, typer.Option(help="Equal seeds make equal decisions on equal measurements.")] = 0,
    width: Annotated[
        int, typer.Option(help="Sessions at the same time; evaluations take turns, as many at a time as there are --slots.")
    ] = 1,
    evaluator: Annotated[
        str, typer.Option(help="Where candidates are measured: local, the URL of a `kevolve serve`, ray, or ray:ADDRESS.")
    ] = "local",
    slots: Annotated[int, typer.Option(min=1, help="Evaluations at a time: shares of the cores, or accelerators.")] = 1,
    attempts: Annotated[int, typer.Option(help="Most candidates a session writes until one passes.")] = 3,
    stall_window: Annotated[int, typer.Option(help="Stop after so many sessions without a better candidate; 0: never.")] = 0,
    fitness_threshold: Annotated[float | None, typer.Option(help="Stop once the speedup over the stronger baseline reaches this.")] = None,
    roofline_threshold: Annotated[
        float | None, typer.Option(help="Stop once the best candidate reaches this fraction of its physical floor, 0 to 1.")
    ] = None,
    no_reuse: Annotated[
        bool,
        typer.Option("--no-reuse", help="Let the coder write the first draft, also where there is a winner of the same or a similar task."),
    ] = False,
    injection_rate: Annotated[
        float, typer.Option(help="Share of later sessions that start from a winner of a sibling or similar task, 0 to 1.")
    ] = 0.0,
    reuse_threshold: Annotated[
        float, typer.Option(help="Least similarity of the descriptions at which a task counts as similar, 0 to 1.")
    ] = 0.8,
    profiles: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Passing candidates that are profiled for the diagnosis, at most. Default: 4 for the llm coder with the local evaluator, else 0.",
        ),
    ] = None,
    approve: Annotated[bool, typer.Option("--approve", help="Ask before every round.")] = False,
    no_knowledge: Annotated[bool, typer.Option("--no-knowledge", help="Search without the knowledge base and write nothing back.")] = False,
    kernelbench: KernelBench = None,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Search for a faster implementation of PROBLEM and print what was found."""
    with errors():
        from agents.config import ModelOptions, RunConfig
        from agents.driver import create_run
        from agents.errors import OptionError
        from agents.models_file import read_models
        from agents.runs.store import RunStore
        from agents.strategies.registry import create_strategy
        from agents.types import Budget, Limits
        from agents.workbench import resolve_target
        from tools.problems import load_problem
        from tools.targets.mtia_model import TIME_MODEL
        from tools.targets.registry import is_simulated

        if budget_evaluations is None and budget_seconds is None:
            budget_evaluations = 30
        if attempts < 1:
            raise OptionError(f"--attempts must be at least 1, got {attempts}")
        try:
            budget = Budget(budget_evaluations, budget_seconds, budget_tokens, budget_dollars)
        except ValueError as error:
            raise OptionError(str(error)) from error
        written_by = ModelOptions(name=model, base_url=base_url, model_id=model_id)
        role_models: Mapping[str, ModelOptions] = {}
        if models is not None:
            written_by, role_models = read_models(models, written_by)
        config = RunConfig(
            strategy=strategy,
            strategy_options=_pairs(option or []),
            coder=coder,
            model=written_by,
            role_models=role_models,
            seed=seed,
            budget=budget,
            limits=Limits(attempts=attempts),
            width=width,
            evaluator=evaluator,
            evaluator_slots=slots,
            use_knowledge=not no_knowledge,
            stall_window=stall_window,
            fitness_threshold=fitness_threshold,
            roofline_threshold=roofline_threshold,
            reuse=not no_reuse,
            injection_rate=injection_rate,
            reuse_threshold=reuse_threshold,
            profiles=profiles if profiles is not None else 4 if coder == "llm" and evaluator == "local" else 0,
            approve=approve,
        )
        create_strategy(config.strategy, config.strategy_options)
        loaded = load_problem(problem, kernelbench_root=kernelbench)
        exact = resolve_target(target, evaluator, may_simulate=True)
        place = home_of(home)
        with RunStore(place) as store, _workbench(place, exact, config, 0) as machinery:
            run_id = create_run(store, loaded, exact, config)
            stderr().print(f"run {run_id}: {loaded.problem_id} on {exact}, {strategy}, seed {seed}", highlight=False)
            if is_simulated(exact):
                stderr().print(
                    f"times are simulated by {TIME_MODEL}: nothing is measured; values are checked in Triton's interpreter", highlight=False
                )
            result = _drive(store, run_id, machinery)
        _finish(result, as_json)


@group.command(
    epilog="Examples: kevolve bench examples --target cpu --budget-evaluations 6; "
    "kevolve bench kernelbench --kernelbench ~/KernelBench --target cuda --level 1,2 --shard 1/5 --resume"
)
def bench(
    suite: Annotated[str, typer.Argument(help="examples or kernelbench.")],
    target: Annotated[str, typer.Option(help="As for `kevolve run`.")] = "auto",
    level: Annotated[str, typer.Option(help="Levels of KernelBench, separated by commas.")] = "1,2,3",
    only: Annotated[str, typer.Option(help="Only these problems, separated by commas, for example 1/40,2/37 or masked_softmax.")] = "",
    shard: Annotated[str, typer.Option(help="i/n: only every n-th problem, starting with the i-th.")] = "",
    results: Annotated[
        Path | None, typer.Option(help="Raw records are appended here; default: SUITE.jsonl in the state directory.")
    ] = None,
    label: Annotated[str, typer.Option(help="Name of this arm of an experiment, for example cold.")] = "",
    resume: Annotated[bool, typer.Option("--resume", help="Skip what the results file already has.")] = False,
    strategy: Annotated[str, typer.Option(help="As for `kevolve run`.")] = "greedy",
    budget_evaluations: Annotated[int, typer.Option(help="Most evaluations per problem.")] = 30,
    budget_seconds: Annotated[float | None, typer.Option(help="Most seconds per problem.")] = None,
    stall_window: Annotated[int, typer.Option(help="As for `kevolve run`.")] = 0,
    fitness_threshold: Annotated[float | None, typer.Option(help="As for `kevolve run`: the next problem's turn comes sooner.")] = None,
    seed: Annotated[int, typer.Option(help="As for `kevolve run`.")] = 0,
    beside: Annotated[
        int, typer.Option(help="Problems at a time, spread over the accelerators: compiling and checking overlap, timings are alone.")
    ] = 1,
    stop_after: Annotated[float | None, typer.Option(help="Start no further problem after so many seconds.")] = None,
    no_knowledge: Annotated[bool, typer.Option("--no-knowledge", help="As for `kevolve run`.")] = False,
    kernelbench: KernelBench = None,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Search for every problem of SUITE; append raw records and print the report made from them."""
    with errors():
        from agents.config import RunConfig
        from agents.runs.store import RunStore
        from agents.types import Budget
        from agents.workbench import resolve_target
        from evaluation.bench import BenchOptions, run_suite, shard_of
        from evaluation.bench_pool import run_suite_beside
        from evaluation.records import read
        from evaluation.report import render
        from tools.problems import load_problem, suite_problems

        prefix = "kernelbench:" if suite == "kernelbench" else "examples/"
        if only:
            problems = [load_problem(f"{prefix}{name.strip()}", kernelbench_root=kernelbench) for name in only.split(",")]
        else:
            problems = suite_problems(suite, _levels(level), kernelbench_root=kernelbench)
        config = RunConfig(
            strategy=strategy,
            seed=seed,
            budget=Budget(budget_evaluations, budget_seconds),
            deep_search=False,  # the library coder reads kernel documents, no briefs
            use_knowledge=not no_knowledge,
            stall_window=stall_window,
            fitness_threshold=fitness_threshold,
        )
        place = home_of(home)
        path = results or place / f"{suite}.jsonl"
        exact = resolve_target(target)
        options = BenchOptions(suite, exact, config, path, label, resume)
        todo = shard_of(problems, shard)
        try:
            if beside > 1 or stop_after is not None:
                run_suite_beside(todo, options, place, num_workers=beside, stop_after_s=stop_after, tell=_tell)
            else:
                with RunStore(place) as store, _workbench(place, exact, config, 0) as machinery:
                    run_suite(todo, options, store, machinery, _tell)
        except KeyboardInterrupt:
            fail(f"interrupted; records so far are in {path}. The same command with --resume goes on", EXIT_INTERRUPTED)
        records = read([path])
        if as_json:
            print_json({"results": str(path), "records": [item.best for item in records]})
        else:
            sys.stdout.write(render(records, f"{suite} on {exact}"))


@group.command(epilog="Examples: kevolve resume 261122-4f2a9c; kevolve resume 261122-4f2a9c --answer yes")
def resume(
    run_id: Annotated[str, typer.Argument(help="Id of an open run.")],
    answer: Annotated[
        str, typer.Option(help="Answer for a run that waits for approval: yes, no or stop; asked for if it is left out.")
    ] = "",
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Continue a run that was interrupted, killed or paused."""
    with errors():
        from agents.errors import OptionError

        if answer not in ("", "yes", "no", "stop"):
            raise OptionError(f"--answer is yes, no or stop, got {answer!r}")
        from agents.config import RunConfig
        from agents.runs.store import RunStore

        place = home_of(home)
        with RunStore(place) as store:
            record = store.run(run_id)
            store.acquire(record.run_id)
            config = RunConfig.from_json(record.config)
            spent = store.spent(record.run_id)
            stderr().print(f"run {record.run_id}: {spent.evaluations} evaluations made before", highlight=False)
            with _workbench(place, record.target, config, spent.evaluations) as machinery:
                result = _drive(store, record.run_id, machinery, answer)
        _finish(result, as_json)


def _levels(text: str) -> tuple[int, ...]:
    from agents.errors import OptionError

    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise OptionError(f"--level takes numbers separated by commas, got {text!r}") from error


def _pairs(options: list[str]) -> dict[str, str]:
    from agents.errors import OptionError

    found = {}
    for text in options:
        name, separator, value = text.partition("=")
        if not separator:
            raise OptionError(f"--strategy-option takes NAME=NUMBER, got {text!r}")
        found[name.strip()] = value.strip()
    return found


def _tell(line: str) -> None:
    stderr().print(line, highlight=False)


@contextlib.contextmanager
def _workbench(home: Path, target: str, config: RunConfig, known: int) -> Iterator[Any]:
    from agents.progress import Progress
    from agents.workbench import workbench

    console = stderr()
    with Progress(console, config.budget.evaluations, known) as progress, workbench(home, target, config, progress) as machinery:
        if machinery.base is not None and not machinery.base.documents():
            console.print(f"the knowledge base under {home} is empty; `kb ingest docs/` fills it", highlight=False)
        elif machinery.base is not None and config.coder == "library" and not machinery.base.kernel_documents(target):
            console.print(
                f"no kernel document speaks of {target}: the library coder has nothing but PyTorch's operators to offer. "
                "`--coder llm --model …` has kernels written; a document under docs/kernels/ gives the library coder one",
                highlight=False,
                soft_wrap=True,
            )
        yield machinery


def _drive(store: RunStore, run_id: str, machinery: Any, answer: str = "") -> Mapping[str, Any]:
    from agents.driver import drive
    from agents.errors import RunPaused
    from agents.interrupting import run_interruptible

    given = [answer] if answer else []

    def ask(question: Mapping[str, Any]) -> str:
        if given:
            return given.pop()
        stderr().print(f"round {question['round']} would start:", highlight=False)
        for item in question["sessions"]:
            what = f"expand {' and '.join(item['parents'])}" if item["parents"] else "a new draft"
            stderr().print(f"  {what} (memory: {item['memory']})", highlight=False, markup=False)
        return str(typer.prompt("go on? yes, no (never expand these) or stop", default="yes", err=True)).strip()

    try:
        return run_interruptible(drive(store, run_id, machinery, ask if given or sys.stdin.isatty() else None))
    except RunPaused as error:
        fail(str(error), EXIT_INTERRUPTED)
    except KeyboardInterrupt:
        fail(f"interrupted; nothing is lost. `kevolve resume {run_id}` continues the run", EXIT_INTERRUPTED)
    except Exception as error:
        code = exit_code(error)
        if code is None:
            raise
        fail(f"{error}\n{_hint(run_id, error, store.run(run_id).result is not None)}", code)


def _hint(run_id: str, error: Exception, is_closed: bool = False) -> str:
    """Say how to go on after a run met an error of ours: it keeps the problem's text, so mending that file takes a new run."""
    from tools.errors import ProblemError

    if is_closed:
        return f"run {run_id} is closed: nothing of it can be used. Mend the problem's file, or what it misses here, and start a new run with `kevolve run`"
    if isinstance(error, ProblemError):
        return (
            f"run {run_id} keeps the problem as it was read: after a change of its file start a new run with `kevolve run`; "
            f"if something is missing on this machine, mend that and `kevolve resume {run_id}` continues"
        )
    return f"run {run_id} stays open; mend the cause and `kevolve resume {run_id}` continues it"


def _finish(result: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(dict(result))
    else:
        from agents.show import outcome_paths, outcome_table

        stdout().print(outcome_table(result))
        for line in outcome_paths(result):
            typer.echo(line)
    if result["best"] is None:
        raise typer.Exit(EXIT_NO)
