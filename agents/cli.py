"""The command `kevolve`: parses, calls one library function, prints. Results go to stdout, progress and errors to stderr."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from agents.config import RunConfig
    from agents.runs.records import RunRecord
    from agents.runs.store import RunStore

EXIT_NO = 1
EXIT_MISUSE = 2
EXIT_MACHINE = 3
EXIT_INTERRUPTED = 130

app = typer.Typer(
    name="kevolve",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Search for faster kernels, and prove that they are.",
    epilog="Exit codes: 0 done, 1 the answer is no, 2 misuse, 3 the machine or the set-up, 130 interrupted (the run can be resumed).",
)

Home = Annotated[Path | None, typer.Option("--home", help="State directory (default: KEVOLVE_HOME, else the user's data directory).")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]
KernelBench = Annotated[
    Path | None, typer.Option("--kernelbench", help="A KernelBench checkout, for problems named kernelbench:LEVEL/NUMBER.")
]


@app.command(
    epilog="Examples: kevolve run examples/masked_softmax.py --budget-evaluations 20; "
    "kevolve run kernelbench:1/40 --kernelbench ~/KernelBench --target cuda --strategy mcts --seed 1"
)
def run(
    problem: Annotated[str, typer.Argument(help="A KernelBench-format file, kernelbench:LEVEL/NUMBER, or examples/NAME.")],
    target: Annotated[str, typer.Option(help="auto, cpu, cuda, or an exact one such as cuda:sm_90.")] = "auto",
    strategy: Annotated[str, typer.Option(help="one_shot, linear, greedy, mcts or evolutionary.")] = "greedy",
    option: Annotated[list[str] | None, typer.Option("--strategy-option", help="NAME=NUMBER for the strategy; may be repeated.")] = None,
    coder: Annotated[
        str, typer.Option(help="library (kernels of the knowledge base), llm (a chat model) or reference (a control).")
    ] = "library",
    model: Annotated[str, typer.Option(help="For the llm coder: provider:name, openai-compatible, spool:DIR or replay:FILE.")] = "",
    base_url: Annotated[str, typer.Option(help="Address of an OpenAI-compatible server.")] = "",
    model_id: Annotated[str, typer.Option(help="The model's name at that server (default: the first it lists).")] = "",
    budget_evaluations: Annotated[
        int | None, typer.Option(help="Most evaluations, finalists' re-measurements included. Default: 30.")
    ] = None,
    budget_seconds: Annotated[float | None, typer.Option(help="Most seconds of wall time.")] = None,
    budget_tokens: Annotated[int | None, typer.Option(help="Most tokens of the chat model.")] = None,
    budget_dollars: Annotated[float | None, typer.Option(help="Most dollars for the chat model.")] = None,
    seed: Annotated[int, typer.Option(help="Equal seeds make equal decisions on equal measurements.")] = 0,
    width: Annotated[int, typer.Option(help="Sessions at the same time; evaluations still take turns.")] = 1,
    attempts: Annotated[int, typer.Option(help="Most candidates a session writes until one passes.")] = 3,
    stall_window: Annotated[int, typer.Option(help="Stop after so many sessions without a better candidate; 0: never.")] = 0,
    fitness_threshold: Annotated[float | None, typer.Option(help="Stop once the speedup over the stronger baseline reaches this.")] = None,
    no_knowledge: Annotated[bool, typer.Option("--no-knowledge", help="Search without the knowledge base and write nothing back.")] = False,
    kernelbench: KernelBench = None,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Search for a faster implementation of PROBLEM and print what was found."""
    with _errors():
        from agents.config import ModelOptions, RunConfig
        from agents.driver import create_run
        from agents.errors import OptionError
        from agents.runs.store import RunStore
        from agents.strategies.registry import create_strategy
        from agents.types import Budget, Limits
        from agents.workbench import resolve_target
        from tools.problems import load_problem

        if budget_evaluations is None and budget_seconds is None:
            budget_evaluations = 30
        if attempts < 1:
            raise OptionError(f"--attempts must be at least 1, got {attempts}")
        try:
            budget = Budget(budget_evaluations, budget_seconds, budget_tokens, budget_dollars)
        except ValueError as error:
            raise OptionError(str(error)) from error
        config = RunConfig(
            strategy=strategy,
            strategy_options=_pairs(option or []),
            coder=coder,
            model=ModelOptions(name=model, base_url=base_url, model_id=model_id),
            seed=seed,
            budget=budget,
            limits=Limits(attempts=attempts),
            width=width,
            use_knowledge=not no_knowledge,
            stall_window=stall_window,
            fitness_threshold=fitness_threshold,
        )
        create_strategy(config.strategy, config.strategy_options)
        loaded = load_problem(problem, kernelbench_root=kernelbench)
        exact = resolve_target(target)
        place = _home(home)
        with RunStore(place) as store, _workbench(place, exact, config, 0) as machinery:
            run_id = create_run(store, loaded, exact, config)
            _stderr().print(f"run {run_id}: {loaded.problem_id} on {exact}, {strategy}, seed {seed}", highlight=False)
            result = _drive(store, run_id, machinery)
        _finish(result, as_json)


@app.command(
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
    seed: Annotated[int, typer.Option(help="As for `kevolve run`.")] = 0,
    no_knowledge: Annotated[bool, typer.Option("--no-knowledge", help="As for `kevolve run`.")] = False,
    kernelbench: KernelBench = None,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Search for every problem of SUITE; append raw records and print the report made from them."""
    with _errors():
        from agents.config import RunConfig
        from agents.runs.store import RunStore
        from agents.types import Budget
        from agents.workbench import resolve_target
        from evaluation.bench import BenchOptions, run_suite, shard_of
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
            use_knowledge=not no_knowledge,
            stall_window=stall_window,
        )
        place = _home(home)
        path = results or place / f"{suite}.jsonl"
        exact = resolve_target(target)
        options = BenchOptions(suite, exact, config, path, label, resume)
        with RunStore(place) as store, _workbench(place, exact, config, 0) as machinery:
            try:
                run_suite(shard_of(problems, shard), options, store, machinery, lambda line: _stderr().print(line, highlight=False))
            except KeyboardInterrupt:
                _fail(f"interrupted; records so far are in {path}. The same command with --resume goes on", EXIT_INTERRUPTED)
        records = read([path])
        if as_json:
            _print_json({"results": str(path), "records": [item.best for item in records]})
        else:
            sys.stdout.write(render(records, f"{suite} on {exact}"))


@app.command(epilog="Example: kevolve resume 261122-4f2a9c")
def resume(run_id: Annotated[str, typer.Argument(help="Id of an open run.")], home: Home = None, as_json: AsJson = False) -> None:
    """Continue a run that was interrupted or killed."""
    with _errors():
        from agents.config import RunConfig
        from agents.runs.store import RunStore

        place = _home(home)
        with RunStore(place) as store:
            record = store.run(run_id)
            store.acquire(record.run_id)
            config = RunConfig.from_json(record.config)
            spent = store.spent(record.run_id)
            _stderr().print(f"run {record.run_id}: {spent.evaluations} evaluations made before", highlight=False)
            with _workbench(place, record.target, config, spent.evaluations) as machinery:
                result = _drive(store, record.run_id, machinery)
        _finish(result, as_json)


@app.command(epilog="Example: kevolve runs --limit 5")
def runs(limit: Annotated[int, typer.Option(help="Latest so many.")] = 20, home: Home = None, as_json: AsJson = False) -> None:
    """List runs, latest first."""
    with _errors():
        from agents.runs.store import RunStore
        from agents.show import run_to_json

        with RunStore(_home(home)) as store:
            records = store.runs(limit)
        if as_json:
            _print_json({"runs": [run_to_json(record) for record in records]})
            return
        from rich.table import Column, Table
        from rich.text import Text

        table = Table(
            Column("run", no_wrap=True, min_width=13),
            Column("status", no_wrap=True, min_width=9),
            "problem",
            "target",
            "strategy",
            "coder",
            "best",
            "started",
        )
        for record in records:
            table.add_row(
                record.run_id,
                "running" if record.is_driven else "resumable" if record.status == "open" else record.status.value,
                Text(record.problem.problem_id),
                record.target,
                record.strategy,
                record.coder,
                _best_text(record),
                time.strftime("%Y-%m-%d %H:%M", time.localtime(record.created)),
            )
        _stdout().print(table if records else "no runs yet; `kevolve run PROBLEM` starts one")


@app.command(epilog="Examples: kevolve show 261122-4f2a9c; kevolve show NODE")
def show(
    what: Annotated[str, typer.Argument(help="Id of a run or of a node, or an unambiguous beginning.")],
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Show a run as a graph with its outcome, or a node with its source and the way to it."""
    with _errors():
        from agents.errors import UnknownNameError
        from agents.runs.store import RunStore
        from agents.show import lineage_steps, node_to_json, outcome_table, run_to_json, run_tree

        console = _stdout()
        with RunStore(_home(home)) as store:
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
                if as_json:
                    events = [
                        {"kind": event.kind, **event.data}
                        for event in store.events(record.run_id)
                        if event.kind in ("planned", "stopped", "remeasured", "written_back")
                    ]
                    _print_json(
                        {
                            **run_to_json(record),
                            "num_evaluations": spent.evaluations,
                            "nodes": [node_to_json(item) for item in nodes],
                            "events": events,
                        }
                    )
                    return
                console.print(run_tree(record, nodes))
                if record.result is not None:
                    console.print(outcome_table(record.result))
                else:
                    state = "is running" if record.is_driven else f"is not finished; `kevolve resume {record.run_id}` continues it"
                    console.print(f"the run {state}: {spent.evaluations} evaluations, {record.seconds:.0f} s", highlight=False)
                return
            steps = lineage_steps(store.nodes(owner), node.node_id)
            if as_json:
                lineage = [
                    {"node_id": step.node.node_id, "fitness": step.node.fitness, "gain": step.gain, "diff": step.diff} for step in steps
                ]
                _print_json({"run_id": owner, **node_to_json(node), "source": node.candidate.source, "lineage": lineage})
                return
            from rich.syntax import Syntax

            for step in steps:
                gain = f", {step.gain:.3f} times its parent" if step.gain else ""
                console.rule(f"{step.node.node_id}: {step.node.evaluation.status.value}, fitness {step.node.fitness:.3f}{gain}")
                console.print(step.node.notes, markup=False, highlight=False)
                if step.diff and step.node.node_id != node.node_id:
                    console.print(Syntax(step.diff, "diff", background_color="default"))
            console.print(Syntax(node.candidate.source, "python", background_color="default"))
            if node.evaluation.reason:
                console.print(node.evaluation.reason, markup=False, highlight=False)


@app.command(epilog="Example: kevolve evaluate kernel.py --problem examples/masked_softmax.py --target cpu")
def evaluate(
    candidate: Annotated[Path, typer.Argument(help="A Python file that defines ModelNew.")],
    problem: Annotated[str, typer.Option(help="As for `kevolve run`.")],
    target: Annotated[str, typer.Option(help="auto, cpu, cuda, or an exact one.")] = "auto",
    effort: Annotated[str, typer.Option(help="quick or full.")] = "quick",
    language: Annotated[str, typer.Option(help="triton, cpp or torch; auto: from the imports.")] = "auto",
    seed: Annotated[int, typer.Option(help="Seed of the input values.")] = 0,
    kernelbench: KernelBench = None,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Check and time one candidate against PROBLEM's reference; exit code 1 if it does not pass."""
    with _errors():
        from agents.errors import OptionError
        from agents.outcome import evaluation_to_json
        from tools.evaluator import LocalEvaluator
        from tools.problems import load_problem
        from tools.types import EFFORTS, Candidate, Status

        if effort not in EFFORTS:
            raise OptionError(f"unknown effort {effort!r}; known: {', '.join(EFFORTS)}")
        if not candidate.is_file():
            raise OptionError(f"no such file: {candidate}; give a Python file that defines ModelNew")
        source = candidate.read_text(encoding="utf-8")
        loaded = load_problem(problem, kernelbench_root=kernelbench)
        exact = _exact_target(target)
        written = Candidate(source=source, language=_language(source) if language == "auto" else language)
        with LocalEvaluator(_home(home)) as evaluator:
            evaluation = evaluator.evaluate(written, loaded, target=exact, effort=EFFORTS[effort], seed=seed)
        data = evaluation_to_json(evaluation)
        if as_json:
            _print_json(data)
        else:
            from rich.table import Table
            from rich.text import Text

            table = Table(show_header=False)
            for name in (
                "status",
                "reason",
                "target",
                "evidence",
                "latency_ms",
                "composition",
                "precision_class",
                "roofline_fraction",
                "receipt",
            ):
                if data[name] not in ("", None):
                    table.add_row(name, Text(str(data[name])))
            for name, value in data["baselines_ms"].items():
                table.add_row(f"{name} latency_ms", f"{value:.4g}")
            for name, interval in data["speedup"].items():
                table.add_row(f"speedup over {name}", f"{interval['value']:.3f} ({interval['low']:.3f} to {interval['high']:.3f})")
            for name in ("error", "first_mismatch"):
                if data["feedback"][name]:
                    table.add_row(name, Text(data["feedback"][name]))
            for line in data["feedback"]["lint"]:
                table.add_row("lint", Text(line))
            _stdout().print(table)
        if evaluation.status in (Status.HARNESS_ERROR, Status.NOT_MEASURED):
            raise typer.Exit(EXIT_MACHINE)
        raise typer.Exit(0 if evaluation.status is Status.PASSED else EXIT_NO)


@app.command(epilog="Example: kevolve targets --json")
def targets(as_json: AsJson = False) -> None:
    """List the targets, and what this machine can prove about each."""
    with _errors():
        from tools.targets.registry import get_target, known_targets

        infos = [get_target(name).describe() for name in known_targets()]
        if as_json:
            rows = [
                {
                    "name": info.name,
                    "family": info.family,
                    "evidence": info.evidence.value,
                    "summary": info.summary,
                    "document": info.document,
                }
                for info in infos
            ]
            _print_json({"targets": rows})
            return
        from rich.table import Table
        from rich.text import Text

        table = Table("target", "family", "evidence here", "what it is")
        for info in infos:
            table.add_row(info.name, info.family, info.evidence.value, Text(info.summary))
        _stdout().print(table)


@app.command(epilog="Example: kevolve doctor")
def doctor(home: Home = None, as_json: AsJson = False) -> None:
    """Check that this machine has what a run needs; exit code 3 if something is missing."""
    with _errors():
        from agents.doctor import examine

        findings = examine(_home(home))
        if as_json:
            _print_json({"findings": [finding.to_json() for finding in findings]})
        else:
            from rich.text import Text

            for finding in findings:
                mark = "ok     " if finding.is_fine else "missing" if finding.is_needed else "note   "
                _stdout().print(Text(f"{mark}  {finding.name}: {finding.detail}"), highlight=False, soft_wrap=True)
        if any(finding.is_needed and not finding.is_fine for finding in findings):
            raise typer.Exit(EXIT_MACHINE)


@app.command("self-test", epilog="Examples: kevolve self-test --target cpu; kevolve self-test --only H01 --only H02")
def self_test(
    target: Annotated[str, typer.Option(help="auto, cpu, cuda, or an exact one.")] = "auto",
    only: Annotated[list[str] | None, typer.Option("--only", help="Id of a fixture; may be repeated. Default: all.")] = None,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Prove on this machine that the evaluator passes honest candidates and catches wrong and cheating ones; exit code 1 if it does not."""
    with _errors():
        from agents.errors import UnknownNameError
        from tools.evaluator import LocalEvaluator
        from tools.selftest.fixtures import load_fixtures
        from tools.selftest.runner import run_fixtures

        exact = _exact_target(target)
        fixtures = load_fixtures(exact.partition(":")[0])
        unknown = sorted(set(only or []) - {fixture.fixture_id for fixture in fixtures})
        if unknown:
            raise UnknownNameError(f"no fixture {', '.join(unknown)}; known: {', '.join(fixture.fixture_id for fixture in fixtures)}")
        chosen = [fixture for fixture in fixtures if not only or fixture.fixture_id in only]
        rows: list[dict[str, Any]] = []
        # Without lint, so that each exploit meets the check that is to catch it.
        with LocalEvaluator(_home(home), use_lint=False) as evaluator:
            for finding in run_fixtures(evaluator, chosen, exact):
                got = finding.evaluation.status.value if finding.evaluation else "error"
                fixture = finding.fixture
                rows.append({"id": fixture.fixture_id, "name": fixture.name, "got": got, "complaint": finding.complaint})
                _stderr().print(
                    f"{'FAILED' if finding.complaint else 'ok':6} {fixture.fixture_id} {fixture.name}: {got}", markup=False, highlight=False
                )
        failed = [row for row in rows if row["complaint"]]
        if as_json:
            _print_json({"target": exact, "passed": not failed, "findings": rows})
        else:
            for row in failed:
                typer.echo(f"{row['id']} {row['name']}: {row['complaint']}")
            typer.echo(f"{len(rows) - len(failed)} of {len(rows)} verdicts are as they should be on {exact}")
        if failed:
            raise typer.Exit(EXIT_NO)


@app.command(epilog="Example: kevolve export 261122-4f2a9c ./winner")
def export(
    run_id: Annotated[str, typer.Argument(help="Id of a finished run.")],
    directory: Annotated[Path, typer.Argument(help="A new or empty directory.")],
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Write the winner of a run as a package: source, problem, receipt, result, README."""
    with _errors():
        from agents.export import export_winner
        from agents.runs.store import RunStore

        with RunStore(_home(home)) as store:
            files = export_winner(store, store.run(run_id), directory)
        if as_json:
            _print_json({"directory": str(directory), "files": [str(path) for path in files]})
        else:
            for path in files:
                typer.echo(path)


def _register() -> None:
    from agents.mcp.cli import mcp

    app.command(
        epilog="Examples: claude mcp add kevolve -- kevolve mcp; kevolve mcp --transport http --port 8765",
    )(mcp)


_register()


def main() -> None:
    """Entry point of the command `kevolve`."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    app()


# --- helpers of this module ------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _errors() -> Iterator[None]:
    """Turn our errors into one message on stderr and an exit code; bugs keep their traceback."""
    try:
        yield
    except (KeyboardInterrupt, typer.Exit, SystemExit):
        raise
    except Exception as error:
        code = _exit_code(error)
        if code is None:
            raise
        _fail(str(error), code)


command_errors = _errors
"""For command modules beside this one."""


def _exit_code(error: Exception) -> int | None:
    from agents.errors import AgentsError, ModelError, RunStoreError
    from evaluation.errors import EvaluationError
    from kb.errors import KnowledgeError
    from kb.errors import UnknownNameError as UnknownKnowledge
    from tools.errors import ProblemError, ToolsError, UnknownTargetError

    if isinstance(error, (ProblemError, UnknownTargetError, UnknownKnowledge)):
        return EXIT_MISUSE
    if isinstance(error, (RunStoreError, ModelError, ToolsError, KnowledgeError)):
        return EXIT_MACHINE
    if isinstance(error, (AgentsError, EvaluationError)):
        return EXIT_MISUSE
    return None


def _fail(message: str, code: int) -> NoReturn:
    typer.echo(f"kevolve: {message}", err=True)
    raise typer.Exit(code)


def _home(home: Path | None) -> Path:
    from kb.home import default_home

    return (home if home is not None else default_home()).expanduser().absolute()


def _stdout() -> Console:
    from rich.console import Console

    return Console()


def _stderr() -> Console:
    from rich.console import Console

    return Console(stderr=True)


def _print_json(data: object) -> None:
    typer.echo(json.dumps(data, indent=2))


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


def _best_text(record: RunRecord) -> str:
    best = record.result.get("best") if record.result else None
    return f"{best['fitness']:.2f}×" if best else ""


def _exact_target(name: str) -> str:
    from tools.targets.registry import get_target

    if name == "auto":
        from agents.workbench import resolve_target

        return resolve_target(name)
    return get_target(name).describe().name


def _language(source: str) -> str:
    if "import triton" in source or "from triton" in source:
        return "triton"
    return "cpp" if 'extern "C"' in source or "cpp_extension" in source else "torch"


@contextlib.contextmanager
def _workbench(home: Path, target: str, config: RunConfig, known: int) -> Iterator[Any]:
    from agents.progress import Progress
    from agents.workbench import workbench

    console = _stderr()
    with Progress(console, config.budget.evaluations, known) as progress, workbench(home, target, config, progress) as machinery:
        if machinery.base is not None and not machinery.base.documents():
            console.print(f"the knowledge base under {home} is empty; `kb ingest docs/` fills it", highlight=False)
        yield machinery


def _drive(store: RunStore, run_id: str, machinery: Any) -> Mapping[str, Any]:
    from agents.driver import drive

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        return asyncio.run(drive(store, run_id, machinery))
    except KeyboardInterrupt:
        _fail(f"interrupted; nothing is lost. `kevolve resume {run_id}` continues the run", EXIT_INTERRUPTED)
    except Exception as error:
        if _exit_code(error) is not None:
            typer.echo(f"kevolve: run {run_id} stays open; mend the cause and `kevolve resume {run_id}` continues it", err=True)
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


def _finish(result: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        _print_json(dict(result))
    else:
        from agents.show import outcome_table

        _stdout().print(outcome_table(result))
    if result["best"] is None:
        raise typer.Exit(EXIT_NO)


if __name__ == "__main__":
    main()
