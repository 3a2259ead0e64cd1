"""What one new kernel document changes: bench, `kb ingest` of the document, bench again. Its family's problems are to move, the others to stay.

The base starts with the kernel documents of `--documents` but this one. Each bench appends raw records (labels `without-KERNEL` and `with-KERNEL`); `moves.jsonl`
then has a line for each problem: speedups before and after, the kernels that the published candidate is made of, and how many times as fast it became.

    python -m evaluation.new_document docs/kernels/convolution/conv2d_depthwise.md --family 1/83,1/85 --others 1/40,1/14 \\
        --kernelbench KernelBench --target cuda --home H --out new-document --beside 4
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

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
from evaluation.records import Record, latest, read
from evaluation.report import render
from evaluation.simplified import relative
from tools.receipts import finite
from tools.types import Interval, Problem

MOVED = 0.05
"""A problem has moved if its whole interval lies further than this from 1: two searches of the same problem differ by a few percent."""


@dataclass(frozen=True)
class Move:
    """What became of one problem when the document came."""

    problem_id: str
    is_family: bool
    """True if the document is expected to matter to it."""
    kernel: str
    """Name of the kernel in the document."""
    before: dict[str, Any]  # Any: JSON
    """Status, speedups and kernels of the published candidate without the document."""
    after: dict[str, Any]  # Any: JSON
    """The same with it."""
    ratio: Interval | None
    """How many times as fast the candidate became; None unless both passed."""
    uses_document: bool
    """True if the new candidate has a kernel of the document."""
    is_same_source: bool
    """True if both arms published the same text."""

    @property
    def is_moved(self) -> bool:
        """Say whether the speed changed by more than `MOVED`, or what was published passes in one arm alone."""
        if self.ratio is None:
            return bool(self.before["status"] != self.after["status"])
        return self.ratio.low > 1 + MOVED or self.ratio.high < 1 - MOVED

    @property
    def is_as_expected(self) -> bool:
        """Say whether a problem of the family became faster by the document, or another one stayed: the same text, or the same speed without the document."""
        if self.is_family:
            return self.uses_document and self.ratio is not None and self.ratio.low > 1 + MOVED
        return self.is_same_source or (not self.uses_document and not self.is_moved)

    def to_line(self) -> str:
        """Return the line of the record."""
        values = {**asdict(self), "is_moved": self.is_moved, "is_as_expected": self.is_as_expected}
        return json.dumps(finite(values), sort_keys=True, allow_nan=False) + "\n"


def labels_of(kernel: str) -> tuple[str, str]:
    """Return the labels of the two benches."""
    return f"without-{kernel}", f"with-{kernel}"


def kernel_of(document: Path) -> str:
    """Return the name of the kernel that a document holds.

    Raises:
        EvaluationError: It is no kernel document.
    """
    try:
        parts = document.read_text(encoding="utf-8").split("---\n", 2)
        front = yaml.safe_load(parts[1]) if len(parts) == 3 and not parts[0] else None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise EvaluationError(f"{document} cannot be read: {error}") from error
    if not isinstance(front, dict) or front.get("kind") != "kernel" or not isinstance(front.get("kernel"), str):
        raise EvaluationError(f"{document} is no kernel document: its front matter needs `kind: kernel` and `kernel: NAME`")
    return str(front["kernel"])


def add_document(
    document: Path, family: Sequence[Problem], others: Sequence[Problem], home: Path, options: ArmOptions, documents: Path = KERNELS
) -> list[Move]:
    """Bench without the document, ingest it, bench again; return what became of the problems that both benches recorded.

    Args:
        document: A kernel document, in the folder `documents` or elsewhere.
        family: Problems that it is expected to help.
        others: Problems that it should leave alone.
        home: State directory of the experiment; a fresh one, or that of an earlier call to go on with.
        options: What both benches share; of the time that is left the first gets half.
        documents: Folder of the kernel documents that are there from the start.

    Raises:
        EvaluationError: It is no kernel document, the base knows it already, or a worker process died.
        MachineError: The target's device is missing.
    """
    kernel = kernel_of(document)
    before, after = labels_of(kernel)
    problems = [*family, *others]
    if recorded(problems, before, options.results) < len(problems):
        if kernel in kernel_names(home, options.target):
            raise EvaluationError(
                f"the base under {home} has the kernel {kernel!r} already; give another --home, or a smaller set of problems"
            )
        inside = document.resolve().relative_to(documents.resolve()) if document.resolve().is_relative_to(documents.resolve()) else None
        ingest(home, documents, exclude=f"/{inside.as_posix()}" if inside else "")
        if kernel in kernel_names(home, options.target):
            raise EvaluationError(f"another document below {documents} holds the kernel {kernel!r}, too")
        bench_arm(problems, before, home, options, _half(options))
        if recorded(problems, before, options.results) < len(problems):
            return []
    ingest(home, document)
    if kernel not in kernel_names(home, options.target):
        raise EvaluationError(
            f"{document} is in the base now, but {options.target} does not see it; its `targets` say for which it is meant"
        )
    bench_arm(problems, after, home, options)
    chosen = latest(read([options.results]))
    names = {problem.problem_id for problem in family}
    pairs = [(chosen.get((item.problem_id, before)), chosen.get((item.problem_id, after))) for item in problems]
    return [_move(one, other, one.problem_id in names, kernel) for one, other in pairs if one is not None and other is not None]


def _half(options: ArmOptions) -> float | None:
    return None if options.ends is None else (options.ends - time.monotonic()) / 2


def _move(before: Record, after: Record, is_family: bool, kernel: str) -> Move:
    return Move(
        before.problem_id,
        is_family,
        kernel,
        _facts(before),
        _facts(after),
        ratio=relative(after.evaluation, before.evaluation),
        uses_document=kernel in after.extra.get("kernels", ()),
        is_same_source=bool(after.source) and before.source == after.source,
    )


def _facts(record: Record) -> dict[str, Any]:  # Any: JSON
    evaluation = record.evaluation
    return {
        "status": evaluation.status.value,
        "speedup": {name: asdict(interval) for name, interval in sorted(evaluation.speedup.items())},
        "latency_ms": evaluation.latency_ms,
        "kernels": list(record.extra.get("kernels", ())),
        "kernel_documents": record.extra["knowledge"]["kernel_documents"],
    }


def main() -> int:
    """Run both benches and write records, moves and report; exit code 1 if the time ended first or something is not as expected."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("document", type=Path, help="the kernel document that comes later")
    add_arguments(parser)
    parser.add_argument(
        "--family", required=True, help="problems that it is to help, separated by commas, for example 1/83,1/85 or row_cumsum"
    )
    parser.add_argument("--others", default="", help="problems that it is to leave alone")
    parser.add_argument("--documents", type=Path, default=KERNELS, help="folder of the kernel documents that are there from the start")
    arguments = parser.parse_args()
    return guarded(lambda: _run(arguments), parser)


def _run(arguments: argparse.Namespace) -> int:
    options = arm_options(arguments)
    family, others = problems_of(arguments.family, arguments), problems_of(arguments.others, arguments)
    if not family or {item.problem_id for item in family} & {item.problem_id for item in others}:
        raise EvaluationError("--family names at least one problem, and none that --others names")
    moves = add_document(arguments.document, family, others, arguments.home, options, arguments.documents)
    before, after = labels_of(kernel_of(arguments.document))
    records = [record for record in (read([options.results]) if options.results.exists() else ()) if record.label in (before, after)]
    if records:
        labels = {record.label for record in records}
        text = render(records, f"One new document: {arguments.document.name}", before if before in labels else None)
        (arguments.out / "report.md").write_text(text, encoding="utf-8")
        (arguments.out / "moves.jsonl").write_text("".join(move.to_line() for move in moves), encoding="utf-8")
    for move in moves:
        ratio = "" if move.ratio is None else f"{move.ratio.value:.2f} [{move.ratio.low:.2f}, {move.ratio.high:.2f}] times as fast, "
        kind, verdict = "family" if move.is_family else "other", "as expected" if move.is_as_expected else "NOT as expected"
        sys.stdout.write(f"{move.problem_id} ({kind}): {ratio}kernels {', '.join(move.after['kernels']) or 'none'}: {verdict}\n")
    left = 2 * (len(family) + len(others)) - recorded([*family, *others], before, options.results) - len(moves)
    if left:
        tell(f"{left} searches are left; the same command goes on")
    return 1 if left or not all(move.is_as_expected for move in moves) else 0


if __name__ == "__main__":
    sys.exit(main())
