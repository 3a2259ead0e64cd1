"""Judge Triton candidates for a chip that is not here: its compiler or rules, values in the interpreter, and what its documents say about the least time."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tools.targets.base import CompileReport
from tools.types import Candidate, Effort, Evaluation, Evidence, Feedback, Problem, Status


def floors(source: str, limits: Mapping[str, float]) -> dict[str, float]:
    """Return what a problem takes at the peaks of a chip, in ms, from its sizes; nothing is computed (tensors have no storage).

    `memory_ms_at_peak`: every input, parameter and output moved once. `float32_ms_at_peak`: its products and sums at the float32 rate of the vector units, which
    matrix units beat. A rate that the chip's documents lack is left out, and so is the arithmetic of a problem without products.

    Args:
        source: The problem's source; it is executed.
        limits: The chip's numbers.
    """
    import torch
    from torch.utils._pytree import tree_leaves
    from torch.utils.flop_counter import FlopCounterMode

    space: dict[str, Any] = {"__name__": "problem"}  # Any: whatever the file defines
    exec(compile(source, "problem.py", "exec"), space)  # problems of the study are trusted
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        model = space["Model"](*space["get_init_inputs"]())
        inputs = space["get_inputs"]()
        outputs = model(*inputs)
    tensors = [leaf for leaf in tree_leaves([inputs, outputs, dict(model.state_dict())]) if torch.is_tensor(leaf)]
    moved, flops = sum(item.numel() * item.element_size() for item in tensors), float(counter.get_total_flops())
    bandwidth, rate = limits.get("dram_gb_per_s"), limits.get("flops_per_s_float32")
    return ({"memory_ms_at_peak": moved / (bandwidth * 1e6)} if bandwidth else {}) | (
        {"float32_ms_at_peak": flops / rate * 1000} if flops and rate else {}
    )


def resources(report: CompileReport) -> dict[str, float]:
    """Return what the compiler said about every kernel as counters; specialisations of one kernel are told apart by a number."""
    found: dict[str, float] = {}
    names: list[str] = []
    for item in report.kernels:
        names.append(item.kernel)
        count = names.count(item.kernel)
        name = item.kernel if count == 1 else f"{item.kernel}#{count}"
        values = {
            "registers_per_thread": item.registers,
            "spill_bytes": item.spill_bytes,
            "shared_bytes": item.shared_bytes,
            "num_warps": item.num_warps,
            "occupancy_fraction": item.occupancy_fraction,
            "load_vector_bytes": item.load_vector_bytes,
            "uses_matrix_unit": float(bool(item.mma)),
        }
        found |= {f"{name}.{key}": float(value) for key, value in values.items() if value is not None}
    return found


class DevicelessEvaluator:
    """Judges Triton candidates for a chip that is not here: by its compiler or rules, and by values in the interpreter. Never says anything measured.

    A candidate that passes carries no time, except for a target with a timing model: then `latency_ms` is simulated (the sum over launches). Its counters are the
    compiler's report and, where a problem's floors are known, those.

    Args:
        small: Sources of the problems at sizes for the interpreter, by the hash of the problem.
        cache: Where compile reports are kept.
    """

    def __init__(self, small: Mapping[str, str], cache: Path) -> None:
        self._small, self._cache = small, cache

    def evaluate(self, candidate: Candidate, problem: Problem, *, target: str, effort: Effort, seed: int) -> Evaluation:
        """Return the verdict; see `agents.context.Evaluator`."""
        from evaluation.interpreted import check
        from tools.targets.registry import get_target

        def outcome(status: Status, reason: str = "", **more: Any) -> Evaluation:  # Any: fields of an Evaluation
            return Evaluation(candidate.candidate_id, problem.problem_id, target, evidence, status, reason, **more)

        chip = get_target(target)
        report = chip.compile(candidate, problem, timeout_s=effort.timeout_s, cache=self._cache)
        evidence = report.evidence if report.evidence is not Evidence.MEASURED else Evidence.COMPILED
        if report.status == "timeout":
            return outcome(Status.TIMEOUT, "the compiler did not end in time")
        if report.status != "compiled":
            error = report.error or "; ".join(report.warnings) or "no Triton kernel is launched"
            return outcome(Status.COMPILE_ERROR, error.splitlines()[0][:300], feedback=Feedback(error=error[:2000]))
        found = check(candidate.source, self._small[problem.source_hash], timeout_s=max(effort.timeout_s, 240.0))
        feedback = Feedback(error=found.error, first_mismatch=found.first_mismatch)
        if found.status is not Status.PASSED:
            return outcome(found.status, found.reason, feedback=feedback)
        if report.estimates:
            return outcome(Status.PASSED, latency_ms=sum(estimate.value_us for estimate in report.estimates) / 1000)
        limits = {name: limit.value for name, limit in chip.limits().items()}
        return outcome(Status.PASSED, feedback=Feedback(profile=resources(report) | floors(problem.source, limits)))


class OneAtATime:
    """Lets the runs of the study take turns at an evaluator."""

    def __init__(self, evaluator: Any) -> None:  # Any: an `agents.context.Evaluator`
        self._evaluator, self._lock = evaluator, threading.Lock()

    def evaluate(self, candidate: Candidate, problem: Problem, *, target: str, effort: Effort, seed: int) -> Evaluation:
        """See `agents.context.Evaluator`."""
        with self._lock:
            found: Evaluation = self._evaluator.evaluate(candidate, problem, target=target, effort=effort, seed=seed)
            return found
