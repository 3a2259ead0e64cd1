"""Commands that measure: evaluate, self-test. Results go to stdout, progress and errors to stderr."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from agents.commands.console import (
    EXIT_MACHINE,
    EXIT_NO,
    AsJson,
    Home,
    KernelBench,
    errors,
    exact_target,
    home_of,
    print_json,
    stderr,
    stdout,
)

group = typer.Typer()


@group.command(epilog="Example: kevolve evaluate kernel.py --problem examples/masked_softmax.py --target cpu")
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
    with errors():
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
        exact = exact_target(target)
        written = Candidate(source=source, language=_language(source) if language == "auto" else language)
        with LocalEvaluator(home_of(home)) as evaluator:
            evaluation = evaluator.evaluate(written, loaded, target=exact, effort=EFFORTS[effort], seed=seed)
        data = evaluation_to_json(evaluation)
        if as_json:
            print_json(data)
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
            stdout().print(table)
        if evaluation.status in (Status.HARNESS_ERROR, Status.NOT_MEASURED):
            raise typer.Exit(EXIT_MACHINE)
        raise typer.Exit(0 if evaluation.status is Status.PASSED else EXIT_NO)


@group.command("self-test", epilog="Examples: kevolve self-test --target cpu; kevolve self-test --only H01 --only H02")
def self_test(
    target: Annotated[str, typer.Option(help="auto, cpu, cuda, or an exact one.")] = "auto",
    only: Annotated[list[str] | None, typer.Option("--only", help="Id of a fixture; may be repeated. Default: all.")] = None,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Prove on this machine that the evaluator passes honest candidates and catches wrong and cheating ones; exit code 1 if it does not."""
    with errors():
        from agents.errors import UnknownNameError
        from tools.evaluator import LocalEvaluator
        from tools.selftest.fixtures import load_fixtures
        from tools.selftest.runner import run_fixtures

        exact = exact_target(target)
        fixtures = load_fixtures(exact.partition(":")[0])
        unknown = sorted(set(only or []) - {fixture.fixture_id for fixture in fixtures})
        if unknown:
            raise UnknownNameError(f"no fixture {', '.join(unknown)}; known: {', '.join(fixture.fixture_id for fixture in fixtures)}")
        chosen = [fixture for fixture in fixtures if not only or fixture.fixture_id in only]
        rows: list[dict[str, Any]] = []
        # Without lint, so that each exploit meets the check that is to catch it.
        with LocalEvaluator(home_of(home), use_lint=False) as evaluator:
            for finding in run_fixtures(evaluator, chosen, exact):
                got = finding.evaluation.status.value if finding.evaluation else "error"
                fixture = finding.fixture
                rows.append({"id": fixture.fixture_id, "name": fixture.name, "got": got, "complaint": finding.complaint})
                stderr().print(
                    f"{'FAILED' if finding.complaint else 'ok':6} {fixture.fixture_id} {fixture.name}: {got}", markup=False, highlight=False
                )
        failed = [row for row in rows if row["complaint"]]
        if as_json:
            print_json({"target": exact, "passed": not failed, "findings": rows})
        else:
            for row in failed:
                typer.echo(f"{row['id']} {row['name']}: {row['complaint']}")
            typer.echo(f"{len(rows) - len(failed)} of {len(rows)} verdicts are as they should be on {exact}")
        if failed:
            raise typer.Exit(EXIT_NO)


def _language(source: str) -> str:
    if "import triton" in source or "from triton" in source:
        return "triton"
    return "cpp" if 'extern "C"' in source or "cpp_extension" in source else "torch"
