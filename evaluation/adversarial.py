"""KernelBench's own adversarial kernels through our evaluator: each of them must be caught.

They are read from a checkout (`src/kernelbench/unit_tests/test_kernels/*.py`) and tried on the problem that its `test_eval_adversarial.py` tries them on.
`python -m evaluation.adversarial --kernelbench CHECKOUT --target cuda --records FILE` appends one JSON line per kernel. Building their extensions takes most
of the time, so all are built first, beside each other; then each is evaluated alone.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from evaluation.errors import EvaluationError
from tools.errors import ToolsError
from tools.evaluator import LocalEvaluator
from tools.problems import load_problem
from tools.receipts import finite, host_facts
from tools.selftest.runner import append_record
from tools.types import QUICK, Candidate, Evaluation, Problem, Status

PROBLEM = "kernelbench:1/1"
"""What `test_eval_adversarial.py` tries all of them on: the square matrix multiplication."""
_KERNELS = Path("src", "kernelbench", "unit_tests", "test_kernels")
_BUILD_S = 240.0
_LEAST_S = 30.0


def adversarial_kernels(checkout: Path) -> list[Path]:
    """Return the adversarial kernels of a checkout in order of name.

    Raises:
        EvaluationError: There are none.
    """
    found = sorted((checkout / _KERNELS).glob("*.py"))
    if not found:
        raise EvaluationError(f"no adversarial kernels in {checkout / _KERNELS}; give a KernelBench checkout")
    return found


def try_kernels(
    kernels: Sequence[Path], problem: Problem, target: str, home: Path, *, seconds: float
) -> Iterator[dict[str, Any]]:  # Any: JSON
    """Yield one record per kernel; `caught` is true if it does not pass.

    Args:
        kernels: Sources that define ModelNew.
        problem: What they pretend to compute.
        target: Where.
        home: State directory.
        seconds: Limit for everything; a kernel that it leaves no time for is recorded as such.
    """
    began = time.monotonic()
    candidates = [Candidate(path.read_text(encoding="utf-8"), language="cpp") for path in kernels]
    with contextlib.ExitStack() as stack:
        evaluators = [stack.enter_context(LocalEvaluator(home, use_lint=False, use_compiled_baseline=False)) for _ in kernels]
        effort = dataclasses.replace(QUICK, timeout_s=min(_BUILD_S, seconds))
        with ThreadPoolExecutor(max(len(kernels), 1)) as threads:
            first = list(
                threads.map(lambda pair: _evaluate(pair[0], pair[1], problem, target, effort), zip(evaluators, candidates, strict=True))
            )
        facts = evaluators[0].device_facts(target) if evaluators else {}
        for path, candidate, evaluator, earlier in zip(kernels, candidates, evaluators, first, strict=True):
            left_s = seconds - (time.monotonic() - began)
            alone = _evaluate(evaluator, candidate, problem, target, effort) if left_s > _LEAST_S else None
            verdict = alone if alone is not None else earlier
            yield {
                "suite": "kernelbench-adversarial", "kernel": path.name, "problem_id": problem.problem_id, "target": target, "alone": alone is not None,
                "caught": isinstance(verdict, Evaluation) and verdict.status not in _NO_VERDICT,
                "got": verdict.status.value if isinstance(verdict, Evaluation) else "error",
                "reason": verdict.reason if isinstance(verdict, Evaluation) else verdict,
                "error": verdict.feedback.error[:600] if isinstance(verdict, Evaluation) else "",
                "got_beside_others": earlier.status.value if isinstance(earlier, Evaluation) else earlier,
                "seconds": time.monotonic() - began, "environment": {"device": facts, "host": _host(target)},
            }  # fmt: skip


_NO_VERDICT = (Status.PASSED, Status.NOT_MEASURED, Status.HARNESS_ERROR, Status.COMPILE_ERROR, Status.TIMEOUT)
"""A kernel that was not built, or whose evaluation did not end, shows nothing."""


def _evaluate(
    evaluator: LocalEvaluator, candidate: Candidate, problem: Problem, target: str, effort: Any
) -> Evaluation | str:  # Any: Effort
    try:
        return evaluator.evaluate(candidate, problem, target, effort)
    except ToolsError as err:
        return f"the evaluator raised {type(err).__name__}: {err}"


def _host(target: str) -> dict[str, Any]:  # Any: JSON
    command = ["python", "-m", "evaluation.adversarial", "--kernelbench", "KernelBench", "--target", target, "--records", "records.jsonl"]
    return {**host_facts(), "command": command}


def main(arguments: Sequence[str] | None = None) -> int:
    """Try all kernels; returns 0 if every one is caught."""
    parser = argparse.ArgumentParser(prog="python -m evaluation.adversarial", description=__doc__)
    parser.add_argument("--kernelbench", type=Path, required=True, help="a KernelBench checkout")
    parser.add_argument("--target", default="cuda")
    parser.add_argument("--records", type=Path, required=True, help="a .jsonl file to append to")
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--home", type=Path, default=None, help="state directory (default: a temporary one)")
    options = parser.parse_args(arguments)
    kernels = adversarial_kernels(options.kernelbench)
    caught = 0
    with tempfile.TemporaryDirectory(prefix="kevolve-adversarial-") as temporary:
        problem = load_problem(PROBLEM, kernelbench_root=options.kernelbench)
        for record in try_kernels(kernels, problem, options.target, options.home or Path(temporary), seconds=options.seconds):
            append_record(options.records, dict(finite(record)))
            caught += record["caught"]
            sys.stdout.write(
                f"{'caught' if record['caught'] else 'NOT CAUGHT'} {record['kernel']}: {record['got']}: {record['reason'][:300]}\n"
            )
            sys.stdout.flush()
    return 0 if caught == len(kernels) else 1


if __name__ == "__main__":
    raise SystemExit(main())
