"""Aggregation: each test is a slip that real leaderboards made."""

from __future__ import annotations

import math

import pytest

from evaluation.aggregate import geometric_mean, summarise
from evaluation.errors import RecordError
from tools.types import Evaluation, Evidence, Interval, Status


def passed(value: float, low: float | None = None, high: float | None = None) -> Evaluation:
    interval = Interval(value, low if low is not None else value, high if high is not None else value)
    return Evaluation("c", "p", "cpu", Evidence.MEASURED, Status.PASSED, latency_ms=1.0, speedup={"eager": interval, "compiled": interval})


def failed() -> Evaluation:
    return Evaluation("c", "p", "cpu", Evidence.MEASURED, Status.WRONG_VALUES, reason="off by one")


def test_geometric_mean_survives_tiny_and_huge_values() -> None:
    assert geometric_mean([1e-320, 1e300, 1e20]) == pytest.approx(1.0, rel=1e-3)


@pytest.mark.parametrize("bad", [0.0, float("nan"), float("inf"), -1.0, True])
def test_a_missing_time_is_never_a_speedup(bad: float) -> None:
    with pytest.raises(RecordError):
        geometric_mean([1.0, bad])


def test_one_huge_win_does_not_hide_many_losses() -> None:
    summary = summarise([passed(100.0)] + [passed(0.9)] * 99, "eager")
    assert summary.geometric_mean is not None and summary.geometric_mean < 1.0
    assert summary.median == 0.9 and summary.num_wins == 1 and summary.num_losses == 99


def test_failures_count_as_one_and_never_as_solved() -> None:
    summary = summarise([passed(4.0)] + [failed()] * 99, "eager")
    assert summary.geometric_mean == pytest.approx(4.0)
    assert summary.geometric_mean_with_failures == pytest.approx(math.exp(math.log(4.0) / 100))
    assert summary.num_passed == 1 and summary.fast["1.0"] == pytest.approx(0.01)


def test_a_win_needs_the_lower_end_above_the_threshold() -> None:
    summary = summarise([passed(1.0001, 0.99, 1.01)], "eager")
    assert summary.num_wins == 0 and summary.fast["1.0"] == 0.0


def test_strongest_takes_the_smaller_speedup() -> None:
    both = {"eager": Interval(3.0, 3.0, 3.0), "compiled": Interval(1.2, 1.2, 1.2)}
    evaluation = Evaluation("c", "p", "cpu", Evidence.MEASURED, Status.PASSED, latency_ms=1.0, speedup=both)
    assert summarise([evaluation], "strongest").geometric_mean == pytest.approx(1.2)


def test_no_problems_is_not_a_success() -> None:
    with pytest.raises(RecordError):
        summarise([], "eager")


def test_a_failed_evaluation_cannot_carry_a_speedup() -> None:
    with pytest.raises(ValueError):
        Evaluation("c", "p", "cpu", Evidence.MEASURED, Status.TIMEOUT, speedup={"eager": Interval(1.0, 1.0, 1.0)})
