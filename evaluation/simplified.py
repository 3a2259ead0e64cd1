"""The second baseline of a candidate that rests on algebra: the simplified forward with PyTorch's operators alone, as it is and through torch.compile.

A speedup over the reference then mixes better mathematics with better kernels. This one measures the mathematics by themselves, with the same evaluator,
right after the finalist; `factor` is what the kernels add.
"""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evaluation.aggregate import summarise
from evaluation.cells import interval_cell, number_cell, table
from evaluation.records import Record
from tools.errors import ToolsError
from tools.types import QUICK, Candidate, Evaluation, Interval, Problem, Status

if TYPE_CHECKING:
    from agents.driver import Machinery

logger = logging.getLogger(__name__)
ARMS = ("compiled", "plain")
"""Of the simplified forward: through torch.compile, as it is."""


def measure_simplified(
    candidate: Candidate, best: Evaluation, problem: Problem, target: str, machinery: Machinery, seed: int
) -> dict[str, Any] | None:  # Any: JSON
    """Measure the simplified baseline of a problem whose published candidate was written from rewritten operators; None for others.

    Args:
        candidate: The published one. Its provenance tells what was rewritten.
        best: Its evaluation; it stands for a baseline that is the very same source.
        problem: What it was written for.
        target: Exact target.
        machinery: Evaluator and knowledge base of the search.
        seed: Of the input values.

    Returns:
        `rewrites` (sentences) and for each of `ARMS` its `evaluation` and `source`; `reason` where the baseline could not be written.
    """
    from agents.coders.library.coder import NAME, simplified
    from agents.coders.library.errors import LibraryError

    provenance = candidate.provenance
    if provenance.get("coder") != NAME or not (provenance.get("simplified") or provenance.get("restated")):
        return None
    used = [*provenance.get("simplified", ()), *provenance.get("restated", ())]
    try:
        found = simplified(problem, target, machinery.base)
    except LibraryError as error:
        logger.warning("%s: no simplified baseline: %s", problem.problem_id, error)
        return {"rewrites": used, "reason": str(error)[:500]}
    if found is None:
        return {"rewrites": used, "reason": "nothing is rewritten with the kernels that are known now"}
    result: dict[str, Any] = {"rewrites": list(found.rewrites)}
    for arm in ARMS:
        written: Candidate = getattr(found, arm)
        if written.candidate_id == candidate.candidate_id:
            evaluation = best
        else:
            try:
                evaluation = machinery.evaluator.evaluate(written, problem, target=target, effort=QUICK, seed=seed)
            except ToolsError as error:
                logger.warning("%s: the simplified baseline was not measured: %s", problem.problem_id, error)
                evaluation = Evaluation(
                    written.candidate_id, problem.problem_id, target, best.evidence, Status.NOT_MEASURED, reason=str(error)[:500]
                )
        stored = dataclasses.replace(evaluation, receipt=Path(evaluation.receipt).name)
        result[arm] = {"evaluation": stored.to_json(), "source": written.source}
    return result


def rewrites_of(record: Record) -> tuple[str, ...]:
    """Return what was rewritten for a record's candidate, a sentence each; empty where it has no simplified baseline."""
    return tuple(record.extra.get("simplified", {}).get("rewrites", ()))


def arm_of(record: Record, arm: str) -> Evaluation | None:
    """Return the evaluation of a form of the simplified forward; None if there is none."""
    found: Mapping[str, Any] | None = record.extra.get("simplified", {}).get(arm)  # Any: JSON
    return None if found is None else Evaluation.from_json(found["evaluation"])


def factor(record: Record, arm: str) -> Interval | None:
    """Return how many times as fast the published candidate is as a form of the simplified forward; None where one of them did not pass."""
    other = arm_of(record, arm)
    return None if other is None else relative(record.evaluation, other)


def relative(one: Evaluation, other: Evaluation) -> Interval | None:
    """Return how many times as fast one candidate is as another for the same problem, by way of a baseline that ran beside each of them.

    Each was timed against the baseline in interleaved pairs, so what a clock or a host did between the two evaluations cancels out. Of several baselines
    the one that gives the narrowest interval is taken. The ends are the quotients of opposite ends: at least as wide as a 95 % interval. None where one of
    them did not pass or they share no baseline; exactly 1 for the same evaluation.
    """
    if one.status is not Status.PASSED or other.status is not Status.PASSED:
        return None
    shared = sorted(one.speedup.keys() & other.speedup.keys())
    if one.candidate_id == other.candidate_id and one.speedup == other.speedup and shared:
        return Interval(1.0, 1.0, 1.0)
    found = []
    for name in shared:
        mine, theirs = one.speedup[name], other.speedup[name]
        found.append(Interval(mine.value / theirs.value, mine.low / theirs.high, mine.high / theirs.low))
    return min(found, key=lambda interval: math.log(interval.high / interval.low), default=None)


def with_simplified_baseline(record: Record) -> Evaluation:
    """Return the published evaluation with the simplified forward in the place of the reference, as it is in `eager` and compiled in `compiled`.

    It takes the reference's place only where it is faster: algebra may cost PyTorch time, and the weaker baseline would flatter.
    """
    evaluation = record.evaluation
    speedup = dict(evaluation.speedup)
    for name, arm in (("eager", "plain"), ("compiled", "compiled")):
        over, known = factor(record, arm), speedup.get(name)
        if over is not None and (known is None or over.value < known.value):
            speedup[name] = over
    return dataclasses.replace(evaluation, speedup=speedup)


def simplified_section(records: Sequence[Record]) -> str:
    """Return what the algebra and what the kernels give, for problems that rest on algebra, and all means with it in PyTorch's hands; empty if none does."""
    members = [record for record in records if rewrites_of(record)]
    if not members:
        return ""
    before, after = [record.evaluation for record in records], [with_simplified_baseline(record) for record in records]
    means = [
        [name, *(number_cell(summarise(part, name).geometric_mean_with_failures) for part in (before, after))]
        for name in ("eager", "compiled", "strongest")
    ]
    missing = sum(factor(record, "compiled") is None for record in members)
    parts = [
        "### The same algebra without kernels",
        f"{len(members)} of {len(records)} problems were rewritten before kernels were matched. For them the rewritten forward was measured with PyTorch's "
        "operators alone, as it is and through torch.compile, by the same evaluator. What is left over that is the kernels' part."
        + (f" {missing} of them have no such measurement, and keep the reference as their baseline." if missing else ""),
        table(["over", "geometric mean", "with the simplified forward where it is faster than the reference"], means),
        table(
            [
                "problem",
                "rewrites",
                "best over eager",
                "best over compiled",
                "simplified over eager",
                "simplified compiled over compiled",
                "best over simplified compiled",
                "best over simplified",
            ],
            [_row(record) for record in members],
        ),
    ]
    return "\n\n".join(parts)


def _row(record: Record) -> list[str]:
    best, plain, compiled = record.evaluation, arm_of(record, "plain"), arm_of(record, "compiled")
    reason = str(record.extra["simplified"].get("reason", ""))
    return [
        record.problem_id,
        "; ".join(rewrites_of(record)),
        interval_cell(best.speedup.get("eager")),
        interval_cell(best.speedup.get("compiled")),
        _own(plain, "eager") or reason,
        _own(compiled, "compiled") or reason,
        interval_cell(factor(record, "compiled")),
        interval_cell(factor(record, "plain")),
    ]


def _own(evaluation: Evaluation | None, baseline: str) -> str:
    if evaluation is None:
        return ""
    if evaluation.status is not Status.PASSED:
        return f"{evaluation.status.value}: {evaluation.reason}"
    return interval_cell(evaluation.speedup.get(baseline))
