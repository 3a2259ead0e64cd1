"""How per-problem speedups become one number, without the usual slips.

A failure is a value of its own, never a number: it counts as 1.0 (the user keeps the baseline) in `geometric_mean_with_failures`, and as unsolved everywhere else.
A win needs the interval's lower end above the threshold, so noise around 1.0 is not a win.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from evaluation.errors import RecordError
from tools.timing import stats
from tools.types import Evaluation, Interval, Status


@dataclass(frozen=True)
class Summary:
    """Speedups of one set of problems against one baseline."""

    num_problems: int
    num_passed: int
    num_timed: int
    """Passed and measured against this baseline."""
    geometric_mean: float | None
    """Over the timed problems; None if there is none."""
    geometric_mean_with_failures: float
    """Over all problems; those not timed count as 1.0."""
    median: float | None
    num_wins: int
    """Lower end of the interval above 1.0."""
    num_losses: int
    """Upper end of the interval below 1.0."""
    fast: dict[str, float]
    """fast_p for p in 1, 1.5, 2: share of all problems whose interval's lower end is above p."""


def geometric_mean(values: Sequence[float]) -> float:
    """Return the geometric mean, by the mean of logarithms.

    Raises:
        RecordError: `values` is empty or holds a number that is not finite and positive (a zero or NaN is a missing measurement, not a speedup).
    """
    try:
        return stats.geometric_mean(values)
    except ValueError as err:
        raise RecordError(str(err)) from err


def summarise(evaluations: Sequence[Evaluation], baseline: str) -> Summary:
    """Aggregate evaluations against one baseline.

    Args:
        evaluations: One per problem of the set, failures included.
        baseline: `eager`, `compiled`, or `strongest` (the smaller of the speedups, per problem).

    Raises:
        RecordError: The set is empty: no problems is not a success.
    """
    if not evaluations:
        raise RecordError("no problems: an empty set has no result")
    intervals = [interval for item in evaluations if (interval := _speedup(item, baseline)) is not None]
    values = [interval.value for interval in intervals]
    missing = len(evaluations) - len(values)
    return Summary(
        num_problems=len(evaluations),
        num_passed=sum(item.status is Status.PASSED for item in evaluations),
        num_timed=len(values),
        geometric_mean=geometric_mean(values) if values else None,
        geometric_mean_with_failures=geometric_mean(values + [1.0] * missing),
        median=statistics.median(values) if values else None,
        num_wins=sum(interval.low > 1.0 for interval in intervals),
        num_losses=sum(interval.high < 1.0 for interval in intervals),
        fast={str(p): sum(interval.low > p for interval in intervals) / len(evaluations) for p in (1.0, 1.5, 2.0)},
    )


def _speedup(evaluation: Evaluation, baseline: str) -> Interval | None:
    if evaluation.status is not Status.PASSED or not evaluation.speedup:
        return None
    if baseline == "strongest":
        return min(evaluation.speedup.values(), key=lambda interval: interval.value)
    return evaluation.speedup.get(baseline)
