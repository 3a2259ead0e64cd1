"""Measure what a receipt describes once more, here, and say whether the two agree."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tools.errors import MachineError
from tools.problems import problem_from_source
from tools.receipts import read_receipt
from tools.types import EFFORTS, Candidate, Effort, Evaluation, Interval, Problem, Status

if TYPE_CHECKING:
    from tools.evaluator import LocalEvaluator
    from tools.targets.simulation import SimulatedEvaluator


_MACHINE = {
    "device": ("device", "device"),
    "device uuid": ("device", "uuid"),
    "driver": ("device", "driver"),
    "processor": ("host", "processor"),
    "cores": ("host", "cores"),
    "torch": ("device", "torch"),
    "triton": ("device", "triton"),
    "cuda": ("device", "cuda"),
    "compiler": ("host", "compiler"),
    "python": ("host", "python"),
    "numeric flags": ("device", "numeric_flags"),
    "evaluator's commit": ("host", "commit"),
}
"""What is compared of two machines: part and key of a receipt."""
_MOST_COUNT, _MOST_BLOCK_MS, _MOST_TIMEOUT_S = 1000, 10_000.0, 3600.0


@dataclass(frozen=True)
class Agreement:
    """One quantity, then and now."""

    name: str
    then: str
    now: str
    agrees: bool
    is_decisive: bool = True
    """False for facts about the machine, whose difference explains a disagreement and is none itself."""


def replay_receipt(
    evaluator: LocalEvaluator | SimulatedEvaluator, receipt: Mapping[str, Any], target: str = ""
) -> tuple[Evaluation, list[Agreement]]:  # Any: JSON
    """Evaluate a receipt's candidate on its problem with the same effort and compare the outcome.

    Args:
        evaluator: What to measure with.
        receipt: Content of a receipt (`tools.receipts.read_receipt`).
        target: Another target than the receipt's, for example another chip of the family.

    Returns:
        The new evaluation (with a receipt of its own) and, line by line, what agrees.

    Raises:
        MachineError: The receipt lacks what is needed, or its sources do not have the hashes that it states.
    """
    try:
        before = Evaluation.from_json(receipt["evaluation"])
        candidate = Candidate(**{**receipt["candidate"]})
        stated = receipt["problem"]
        problem = problem_from_source(stated["source"], problem_id=stated["problem_id"], path="", name=stated["problem_id"])
        effort, seed = _effort(receipt["effort"]), int(receipt["seed"])
        _require_unchanged(candidate, problem, before, stated)
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as err:
        raise MachineError(f"the receipt cannot be replayed: {type(err).__name__}: {err}") from err
    after = evaluator.evaluate(candidate, problem, target or before.target, effort, seed=seed)
    now = read_receipt(Path(after.receipt)) if after.receipt else {}
    return after, [*compare(before, after), *compare_machines(receipt, now)]


def compare(before: Evaluation, after: Evaluation) -> list[Agreement]:
    """Return what two evaluations of one candidate agree on: status, what it is made of, precision, and each speedup by overlapping intervals."""
    lines = [
        Agreement("status", before.status.value, after.status.value, before.status is after.status),
        Agreement("target", before.target, after.target, before.target == after.target, is_decisive=False),
    ]
    if before.status is Status.PASSED and after.status is Status.PASSED:
        same_kind = before.composition is after.composition
        lines.append(Agreement("composition", before.composition.value, after.composition.value, same_kind))
        lines.append(Agreement("precision", before.precision_class, after.precision_class, before.precision_class == after.precision_class))
        for name in sorted(set(before.speedup) & set(after.speedup)):
            then, now = before.speedup[name], after.speedup[name]
            lines.append(Agreement(f"speedup over {name}", _text(then), _text(now), then.low <= now.high and now.low <= then.high))
    return lines


def compare_machines(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[Agreement]:  # Any: JSON
    """Return what two receipts say of the machine and its software, as far as both say it; none of it decides, all of it may explain."""
    lines = []
    for name, (part, key) in _MACHINE.items():
        before, after = (_stated(receipt, part, key) for receipt in (then, now))
        if before or after:
            lines.append(Agreement(name, before or "not stated", after or "not stated", before == after, is_decisive=False))
    return lines


def _stated(receipt: Mapping[str, Any], part: str, key: str) -> str:  # Any: JSON
    found = receipt.get(part)
    value = found.get(key) if isinstance(found, Mapping) else None
    return "" if value is None else json.dumps(value, sort_keys=True) if isinstance(value, (dict, list)) else str(value)[:300]


def _effort(stated: Mapping[str, Any]) -> Effort:  # Any: JSON
    """Return the effort that a receipt states, number by number; a receipt may come from anywhere, so that its numbers have bounds."""
    effort = Effort(**stated)
    counts = (effort.value_seeds, effort.pairs)
    is_usable = (
        isinstance(effort.name, str)
        and all(isinstance(item, int) and not isinstance(item, bool) and 1 <= item <= _MOST_COUNT for item in counts)
        and 0.0 < float(effort.min_block_ms) <= _MOST_BLOCK_MS
        and 0.0 < float(effort.timeout_s) <= _MOST_TIMEOUT_S
    )
    if not is_usable:
        raise ValueError(f"no effort that can be spent: {dict(stated)}")
    usual = EFFORTS.get(effort.name)  # a time limit is no part of what was measured: a search near its end gives little
    return dataclasses.replace(effort, timeout_s=max(effort.timeout_s, usual.timeout_s)) if usual else effort


def _require_unchanged(candidate: Candidate, problem: Problem, before: Evaluation, stated: Mapping[str, Any]) -> None:  # Any: JSON
    if candidate.candidate_id != before.candidate_id:
        raise MachineError(f"the receipt's candidate has the hash {candidate.candidate_id}, its evaluation names {before.candidate_id}")
    if problem.source_hash != stated["source_hash"]:
        raise MachineError(f"the receipt's problem has the hash {problem.source_hash}, it states {stated['source_hash']}")


def _text(interval: Interval) -> str:
    return f"{interval.value:.3f} [{interval.low:.3f}, {interval.high:.3f}]"
