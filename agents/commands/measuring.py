"""Commands that measure: evaluate, replay, self-test, calibrate. Results go to stdout, progress and errors to stderr."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal, cast

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
    sanitizers: Annotated[
        str, typer.Option(help="When C++ runs once under ASan and UBSan: cheap (full effort, small inputs), always or never.")
    ] = "cheap",
    max_autotune: Annotated[
        bool, typer.Option("--max-autotune", help="Time torch.compile's max-autotune too; minutes to compile.")
    ] = False,
    library: Annotated[
        bool, typer.Option("--library", help="Time a vendor's operator too: what the problem names as ModelLibrary, or cuDNN's own best.")
    ] = False,
    kernelbench: KernelBench = None,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Check and time one candidate against PROBLEM's reference (a simulated target: by a model); exit code 1 if it does not pass."""
    with errors():
        from agents.errors import OptionError
        from agents.outcome import evaluation_to_json
        from tools.evaluator import LocalEvaluator
        from tools.languages import language_of
        from tools.problems import load_problem
        from tools.targets.registry import is_simulated
        from tools.targets.simulation import SimulatedEvaluator
        from tools.types import EFFORTS, Candidate, Status

        if effort not in EFFORTS:
            raise OptionError(f"unknown effort {effort!r}; known: {', '.join(EFFORTS)}")
        if sanitizers not in ("cheap", "always", "never"):
            raise OptionError(f"unknown --sanitizers {sanitizers!r}; known: cheap, always, never")
        if not candidate.is_file():
            raise OptionError(f"no such file: {candidate}; give a Python file that defines ModelNew")
        source = candidate.read_text(encoding="utf-8")
        loaded = load_problem(problem, kernelbench_root=kernelbench)
        exact = exact_target(target)
        written = Candidate(source=source, language=language_of(source) if language == "auto" else language)
        chosen = cast(Literal["cheap", "always", "never"], sanitizers)
        with (
            SimulatedEvaluator(home_of(home))
            if is_simulated(exact)
            else LocalEvaluator(home_of(home), sanitizers=chosen, use_max_autotune=max_autotune, use_library=library)
        ) as evaluator:
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
                "simulated_by",
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
    seconds: Annotated[
        float | None, typer.Option(help="Start no fixture after so many seconds; those that need this target come first.")
    ] = None,
    records: Annotated[Path | None, typer.Option(help="A .jsonl file to append one raw record per fixture to.")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Evaluators beside each other on an accelerator; its timings still take turns.")] = 1,
    eager_only: Annotated[
        bool, typer.Option("--eager-only", help="Leave out the torch.compile baseline: no verdict depends on it.")
    ] = False,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Prove on this machine that the evaluator passes honest candidates and catches wrong and cheating ones; exit code 1 if it does not."""
    with errors(), contextlib.ExitStack() as stack:
        from agents.errors import UnknownNameError
        from tools.evaluator import LocalEvaluator
        from tools.hangs import Hangs
        from tools.selftest.fixtures import load_fixtures
        from tools.selftest.runner import Finding, in_order, record_findings, table

        exact = exact_target(target)
        fixtures = load_fixtures(exact.partition(":")[0])
        unknown = sorted(set(only or []) - {fixture.fixture_id for fixture in fixtures})
        if unknown:
            raise UnknownNameError(f"no fixture {', '.join(unknown)}; known: {', '.join(fixture.fixture_id for fixture in fixtures)}")
        chosen = in_order((fixture for fixture in fixtures if not only or fixture.fixture_id in only), exact)
        rows: list[dict[str, Any]] = []
        findings: list[Finding] = []
        place = home_of(home) / "self-test"
        Hangs(place / "hangs").forget()  # each is to hang again
        # Without lint, so that each exploit meets the check that is to catch it.
        evaluators = [stack.enter_context(LocalEvaluator(place, use_lint=False, use_compiled_baseline=not eager_only)) for _ in range(jobs)]
        for finding in record_findings(evaluators, chosen, exact, records, seconds=seconds):
            got = finding.evaluation.status.value if finding.evaluation else "error"
            fixture = finding.fixture
            findings.append(finding)
            rows.append(
                {"id": fixture.fixture_id, "name": fixture.name, "family": fixture.family, "got": got, "complaint": finding.complaint}
            )
            stderr().print(
                f"{'FAILED' if finding.complaint else 'ok':6} {fixture.fixture_id} {fixture.name}: {got}", markup=False, highlight=False
            )
        failed = [row for row in rows if row["complaint"]]
        if as_json:
            print_json(
                {"target": exact, "passed": not failed and len(rows) == len(chosen), "not_run": len(chosen) - len(rows), "findings": rows}
            )
        else:
            typer.echo(table(findings))
            for row in failed:
                typer.echo(f"{row['id']} {row['name']}: {row['complaint']}")
            typer.echo(f"{len(rows) - len(failed)} of {len(rows)} verdicts are as they should be on {exact}")
            if len(rows) < len(chosen):
                typer.echo(f"{len(chosen) - len(rows)} fixtures were not run within the time limit")
        if failed or len(rows) < len(chosen):
            raise typer.Exit(EXIT_NO)


@group.command(epilog="Example: kevolve replay ~/.kevolve/receipts/4f2a9c0d1e2b3a4c-1.json")
def replay(
    receipt: Annotated[Path, typer.Argument(help="A receipt, from this machine or another one.")],
    target: Annotated[str, typer.Option(help="Measure on another target than the receipt's.")] = "",
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Measure what RECEIPT describes once more and say whether the two agree; exit code 1 if they do not."""
    with errors():
        import dataclasses

        from agents.errors import OptionError
        from tools.evaluator import LocalEvaluator
        from tools.receipts import read_receipt
        from tools.replay import replay_receipt
        from tools.targets.registry import is_simulated
        from tools.targets.simulation import SimulatedEvaluator

        if not receipt.is_file():
            raise OptionError(f"no such file: {receipt}; give a receipt, as `kevolve run` and `kevolve evaluate` name it")
        content = read_receipt(receipt)
        wanted = exact_target(target) if target else ""
        stated = content.get("evaluation")
        where = wanted or (str(stated.get("target", "")) if isinstance(stated, dict) else "")
        with SimulatedEvaluator(home_of(home)) if is_simulated(where) else LocalEvaluator(home_of(home)) as evaluator:
            evaluation, lines = replay_receipt(evaluator, content, wanted)
        agrees = all(line.agrees for line in lines if line.is_decisive)
        if as_json:
            print_json({"agrees": agrees, "receipt": evaluation.receipt, "lines": [dataclasses.asdict(line) for line in lines]})
        else:
            from rich.table import Table

            table = Table("", "then", "now", "agrees")
            for line in lines:
                table.add_row(line.name, line.then, line.now, "yes" if line.agrees else "no")
            stdout().print(table)
            if evaluation.reason:
                typer.echo(evaluation.reason)
        if not agrees:
            raise typer.Exit(EXIT_NO)


@group.command(epilog="Example: kevolve calibrate --target cpu --comparisons 50 --slow-downs 0.03,0.05,0.1")
def calibrate(
    target: Annotated[str, typer.Option(help="auto, cpu, cuda, or an exact one.")] = "auto",
    comparisons: Annotated[int, typer.Option(min=3, help="Copies of a baseline to measure against it.")] = 12,
    slow_downs: Annotated[str, typer.Option(help="Shares of latency to add to further copies, for example 0.03,0.05,0.1.")] = "",
    effort: Annotated[str, typer.Option(help="quick or full.")] = "full",
    per_pair: Annotated[int, typer.Option(min=1, help="Copies of one kind that share a pair of fresh processes.")] = 5,
    seconds: Annotated[float | None, typer.Option(help="Start no pair of processes after so many seconds.")] = None,
    records: Annotated[Path | None, typer.Option(help="A .jsonl file to append each comparison and the result to.")] = None,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Measure baselines against themselves, and keep how far this machine disagrees with itself: every later interval is widened by that."""
    with errors():
        import dataclasses

        from agents.errors import OptionError
        from tools.evaluator import LocalEvaluator
        from tools.receipts import finite, host_facts
        from tools.selftest.runner import append_record
        from tools.timing.calibration import compare_with_itself, summarise, write_calibration
        from tools.types import EFFORTS

        if effort not in EFFORTS:
            raise OptionError(f"unknown effort {effort!r}; known: {', '.join(EFFORTS)}")
        try:
            shares = [float(part) for part in slow_downs.split(",") if part.strip()]
        except ValueError as err:
            raise OptionError(f"--slow-downs takes numbers separated by commas, got {slow_downs!r}") from err
        place, exact, found = home_of(home), exact_target(target), []

        def write(line: dict[str, Any]) -> None:  # Any: JSON
            if records is not None:
                append_record(records, finite(line))
            if as_json:
                typer.echo(json.dumps(line))

        with LocalEvaluator(place, use_compiled_baseline=False, use_calibration=False) as evaluator:
            for item in compare_with_itself(
                evaluator, exact, EFFORTS[effort], comparisons=comparisons, slow_downs=shares, per_pair=per_pair, seconds=seconds
            ):
                found.append(item)
                shown = f"{item.speedup.value:.3f} [{item.speedup.low:.3f}, {item.speedup.high:.3f}]" if item.speedup else item.reason
                stderr().print(f"{item.problem} +{item.slow_down:.0%}: {shown}", markup=False, highlight=False)
                write({"comparison": dataclasses.asdict(item)})
            facts = evaluator.device_facts(exact)
        try:
            result = summarise(facts, found)
        except ValueError as err:
            raise OptionError(str(err)) from err
        path = write_calibration(place, result)
        summary = {**dataclasses.asdict(result), "minimum_effect": result.minimum_effect, "effort": effort}
        write({"calibration": summary, "device": facts, "host": host_facts()})
        if as_json:
            return
        typer.echo(f"{result.comparisons} copies of a baseline against it: {result.false_wins} claimed a win, {result.false_losses} a loss")
        typer.echo(
            f"widened by the spread between {result.pairs} pairs of processes: {result.false_wins_widened} and {result.false_losses_widened}"
        )
        for share, power in result.detected.items():
            typer.echo(f"a copy {float(share):.0%} slower was found slower in {power:.0%} of {result.copies[share]} comparisons")
        typer.echo(f"gains below {result.minimum_effect:.1%} are not told from nothing on this device; kept in {path}")
