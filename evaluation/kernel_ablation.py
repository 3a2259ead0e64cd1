"""What the kernel documents give: the same problems with a knowledge base that has none of them, and with all.

Without them the library coder still has torch.compile, recordings as CUDA graphs, layouts and algebra, which are code. Each arm has a base of its own
below `--home`; arms, budgets and seeds are otherwise equal. `--start` names records of an earlier `kevolve bench`: their problems are benched, and they stand beside the arms in the report,
so that the arm with kernels need not be measured again (then give `--arms without-kernels`).

    python -m evaluation.kernel_ablation --only 1/1,1/40,2/18 --kernelbench KernelBench --target cuda --home H --out ablation --beside 6
    python -m evaluation.kernel_ablation --start records.jsonl --arms without-kernels --kernelbench KernelBench --target cuda --home H --out ablation
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from evaluation.document_arms import (
    KERNELS,
    ArmOptions,
    add_arguments,
    arm_options,
    bench_arm,
    guarded,
    ingest,
    kernel_names,
    problems_of,
    recorded,
    tell,
)
from evaluation.errors import EvaluationError
from evaluation.records import Record, read
from evaluation.report import render
from tools.types import Problem

WITHOUT, WITH = "without-kernels", "with-kernels"
ARMS = (WITHOUT, WITH)


def ablate(
    problems: Sequence[Problem], arms: Sequence[str], home: Path, options: ArmOptions, documents: Path = KERNELS
) -> dict[str, list[Record]]:
    """Bench the problems in each arm and return the records by arm.

    Args:
        problems: At least one.
        arms: Some of `ARMS`.
        home: Directory of the arms' bases.
        options: What the arms share; of the time that is left each gets an equal part.
        documents: Folder of the kernel documents.

    Raises:
        EvaluationError: An arm is unknown, a base holds what its arm must not see, or a worker process died.
        MachineError: The target's device is missing.
    """
    unknown = [arm for arm in arms if arm not in ARMS]
    if unknown or not arms:
        raise EvaluationError(f"no arm {', '.join(map(repr, unknown)) or 'given'}; known: {', '.join(ARMS)}")
    found = {}
    for number, arm in enumerate(arms):
        place = home / arm
        if arm == WITH:
            ingest(place, documents)
        elif names := kernel_names(place, options.target):
            raise EvaluationError(f"the base under {place} holds {len(names)} kernel documents for {options.target}; give another --home")
        left = None if options.ends is None else (options.ends - time.monotonic()) / (len(arms) - number)
        found[arm] = bench_arm(problems, arm, place, options, left)
    return found


def main() -> int:
    """Run the arms and write records and report; exit code 1 if the time ended first."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--only", default="", help="problems, separated by commas, for example 1/40,2/37 or masked_softmax")
    parser.add_argument(
        "--start", type=Path, help="records of a bench whose problems are taken, and which the report shows beside the arms"
    )
    parser.add_argument("--arms", default=",".join(ARMS), help=f"some of {', '.join(ARMS)}, in order")
    parser.add_argument("--documents", type=Path, default=KERNELS, help="folder of the kernel documents")
    arguments = parser.parse_args()
    return guarded(lambda: _run(arguments), parser)


def _run(arguments: argparse.Namespace) -> int:
    start = [] if arguments.start is None else read([arguments.start])
    names = arguments.only or ",".join(dict.fromkeys(record.problem_id for record in start))
    if not names:
        raise EvaluationError("no problems; give --only or --start")
    options = arm_options(arguments)
    if strangers := {record.target for record in start} - {options.target}:
        raise EvaluationError(
            f"the records of --start are of {', '.join(sorted(strangers))}, not of {options.target}; they cannot stand beside the arms"
        )
    problems = problems_of(names, arguments)
    arms = [arm.strip() for arm in arguments.arms.split(",") if arm.strip()]
    ablate(problems, arms, arguments.home, options, arguments.documents)
    wanted = {problem.problem_id for problem in problems}
    records = [record for record in (*start, *(read([options.results]) if options.results.exists() else ())) if record.problem_id in wanted]
    if not records:
        raise EvaluationError("the time ended before anything was recorded; give a larger --stop-after")
    labels = {record.label for record in records}
    text = render(records, "With and without kernel documents", WITHOUT if WITHOUT in labels else None)
    (arguments.out / "report.md").write_text(text, encoding="utf-8")
    sys.stdout.write(text)
    left = sum(len(problems) - recorded(problems, arm, options.results) for arm in arms)
    if left:
        tell(f"{left} searches are left; the same command goes on")
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())
