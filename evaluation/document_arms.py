"""Bench the same problems again while nothing changes but the kernel documents in the knowledge base: the arms of `kernel_ablation` and `new_document`.

Nothing is written back and no earlier winner is looked at, so an arm differs from another by the documents alone. Records are appended as `kevolve bench`
appends them; a problem that has one under an arm's label is not searched again.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from agents.config import RunConfig
from agents.types import Budget
from evaluation.bench import BenchOptions
from evaluation.bench_pool import run_suite_beside
from evaluation.errors import EvaluationError
from evaluation.records import Record, read
from tools.types import Problem

KERNELS = Path(__file__).resolve().parent.parent / "docs" / "kernels"
EMBEDDER = "hashing"
"""Of the bases made here: the library coder reads kernel documents whole and asks for no similar text."""


@dataclass(frozen=True)
class ArmOptions:
    """What all arms of an experiment share."""

    suite: str
    target: str
    """Exact target."""
    config: RunConfig
    results: Path
    num_workers: int
    ends: float | None
    """Start no further problem after this moment of `time.monotonic`; None: run them all."""


def bench_arm(problems: Sequence[Problem], label: str, home: Path, options: ArmOptions, seconds: float | None = None) -> list[Record]:
    """Bench the problems that have no record under this label yet; return all their records.

    Args:
        problems: At least one.
        label: Name of the arm.
        home: State directory whose knowledge base the arm draws on.
        options: What all arms share.
        seconds: Start no further problem after so many; None: until `options.ends`.

    Raises:
        EvaluationError: A worker process died, or there are no problems.
        MachineError: The target's device is missing.
    """
    left = None if options.ends is None else max(0.0, options.ends - time.monotonic())
    bounds = [bound for bound in (left, seconds) if bound is not None]
    bench = BenchOptions(
        options.suite, options.target, options.config, options.results, label, resume=True, command=" ".join(["python", *_command()])
    )
    if recorded(problems, label, options.results) < len(problems) and (not bounds or min(bounds) > 0):
        run_suite_beside(
            problems, bench, home, num_workers=min(options.num_workers, len(problems)), stop_after_s=min(bounds, default=None), tell=tell
        )
    wanted = {problem.problem_id for problem in problems}
    return [item for item in _known(options.results) if item.label == label and item.problem_id in wanted]


def recorded(problems: Sequence[Problem], label: str, results: Path) -> int:
    """Return how many of the problems have a record under the label."""
    done = {item.problem_id for item in _known(results) if item.label == label}
    return sum(problem.problem_id in done for problem in problems)


def ingest(home: Path, path: Path, *, exclude: str = "") -> None:
    """Bring documents into the base under a home directory with `kb ingest`, as a user does.

    Raises:
        EvaluationError: The command failed.
    """
    command = [sys.executable, "-m", "kb.cli", "ingest", str(path), "--home", str(home), "--embedder", EMBEDDER]
    command += ["--exclude", exclude] if exclude else []
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        raise EvaluationError(f"`kb ingest {path}` failed: {done.stderr.strip()[-1000:]}")
    tell(f"kb ingest {path}: {done.stdout.strip()}")


def kernel_names(home: Path, target: str) -> frozenset[str]:
    """Return the kernels that the base under a home directory holds for a target; the base is made if there is none."""
    from kb.store import KnowledgeBase

    with KnowledgeBase.open(home, embedder=EMBEDDER) as base:
        return frozenset(str(item.front_matter.get("kernel", "")) for item in base.kernel_documents(target))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that both commands have."""
    parser.add_argument("--suite", default="kernelbench", choices=("kernelbench", "examples"))
    parser.add_argument("--kernelbench", type=Path, help="a KernelBench checkout; default: KEVOLVE_KERNELBENCH")
    parser.add_argument("--target", default="auto", help="as for `kevolve run`")
    parser.add_argument("--home", type=Path, required=True, help="a directory of this experiment's own; the same one goes on")
    parser.add_argument("--out", type=Path, required=True, help="directory of records and report")
    parser.add_argument("--budget-evaluations", type=int, default=3, help="most evaluations per problem and arm")
    parser.add_argument("--budget-seconds", type=float, help="most seconds per problem and arm")
    parser.add_argument("--fitness-threshold", type=float, help="as for `kevolve run`")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--beside", type=int, default=1, help="problems at a time, spread over the accelerators")
    parser.add_argument("--stop-after", type=float, help="start no further problem after so many seconds")


def arm_options(arguments: argparse.Namespace) -> ArmOptions:
    """Return what the options of `add_arguments` say.

    Raises:
        AgentsError: A value cannot be used.
        ToolsError: This machine lacks the target's device.
    """
    from agents.workbench import resolve_target

    if arguments.beside < 1:
        raise EvaluationError(f"--beside is at least 1, got {arguments.beside}")
    config = RunConfig(
        seed=arguments.seed,
        budget=Budget(arguments.budget_evaluations, arguments.budget_seconds),
        fitness_threshold=arguments.fitness_threshold,
        deep_search=False,
        reuse=False,
        use_siblings=False,
        max_seeds=0,
        write_back=False,
    )
    ends = None if arguments.stop_after is None else time.monotonic() + arguments.stop_after
    return ArmOptions(arguments.suite, resolve_target(arguments.target), config, arguments.out / "records.jsonl", arguments.beside, ends)


def problems_of(names: str, arguments: argparse.Namespace) -> list[Problem]:
    """Return the problems of a list of names, separated by commas, of the suite.

    Raises:
        ProblemError: There is no such problem.
    """
    from tools.problems import load_problem

    prefix = "kernelbench:" if arguments.suite == "kernelbench" else "examples/"
    chosen = [name.strip().removeprefix(prefix) for name in names.split(",") if name.strip()]
    return [load_problem(f"{prefix}{name}", kernelbench_root=arguments.kernelbench) for name in dict.fromkeys(chosen)]


def guarded(work: Callable[[], int], parser: argparse.ArgumentParser) -> int:
    """Run a command; what the user or the machine did wrong becomes a message and exit code 2."""
    from agents.errors import AgentsError
    from kb.errors import KnowledgeError
    from tools.errors import ToolsError

    try:
        return work()
    except (AgentsError, EvaluationError, KnowledgeError, OSError, ToolsError) as error:
        parser.error(str(error))


def tell(line: str) -> None:
    """Write a line of progress."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def _known(results: Path) -> list[Record]:
    return read([results]) if results.exists() else []


def _command() -> list[str]:
    main = sys.modules["__main__"]
    name = getattr(getattr(main, "__spec__", None), "name", None)
    return ["-m", str(name), *sys.argv[1:]] if name else sys.argv
