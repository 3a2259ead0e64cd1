"""Two arms beside each other: common problems alone, failures as failures, and what was known in each."""

from __future__ import annotations

from typing import Any

import pytest

from evaluation.errors import RecordError
from evaluation.records import Record
from evaluation.report import render
from evaluation.side_by_side import side_by_side
from tools.types import Evaluation, Evidence, Interval, Status

KNOWN = {"kernel_documents": 9, "kernel_hash": "abc", "documents": 12, "winners": 0}


def record(problem: str, label: str, value: float | None, **extra: Any) -> Record:
    if value is None:
        best = Evaluation("c", problem, "cpu", Evidence.MEASURED, Status.TIMEOUT, "late")
    else:
        best = Evaluation(
            f"{label}{problem}",
            problem,
            "cpu",
            Evidence.MEASURED,
            Status.PASSED,
            latency_ms=1.0,
            speedup={"eager": Interval(value, 0.99 * value, 1.01 * value)},
        )
    return Record("s", problem, "cpu", best.to_json(), 2, 1.0, "kevolve bench", {}, label=label, extra=extra)


def test_gains_are_told_problem_by_problem_and_on_the_whole() -> None:
    records = [
        record("a", "with", 8.0, kernels=["fast"]),
        record("a", "without", 2.0),
        record("b", "with", 1.0),
        record("b", "without", 1.0),
    ]
    text = side_by_side(records, "with", "without")
    assert "geometric mean 2.00 of the 2 problems" in text and "faster on 1, slower on 0 (whole interval), not told apart on 1" in text
    assert "4.00 [3.92, 4.08]" in text and "| fast |" in text and "| none |" in text


def test_problems_of_one_arm_alone_are_named_and_do_not_count() -> None:
    text = side_by_side([record("a", "with", 8.0), record("a", "without", 2.0), record("b", "with", 100.0)], "with", "without")
    assert "Only under `with`: b." in text and "geometric mean 4.00 of the 1 problems" in text


def test_a_failure_is_no_ratio() -> None:
    text = side_by_side([record("a", "with", 8.0), record("a", "without", None)], "with", "without")
    assert "No problem passed and was timed under both." in text and "| timeout |" in text
    assert "0 of 1" in text and "1 of 1" in text


def test_arms_without_a_common_problem_say_so() -> None:
    text = side_by_side([record("a", "with", 8.0), record("b", "without", 2.0)], "with", "without")
    assert "No problem was recorded under both." in text


def test_what_was_known_in_each_arm_is_told() -> None:
    nothing = {**KNOWN, "kernel_documents": 0}
    text = side_by_side([record("a", "with", 8.0, knowledge=KNOWN), record("a", "without", 2.0, knowledge=nothing)], "with", "without")
    assert "`with`: 9 kernel documents (abc) of 12 documents" in text and "`without`: no kernel documents" in text


def test_a_report_puts_every_label_beside_the_one_that_is_asked_for() -> None:
    records = [record("a", label, value) for label, value in (("x", 1.0), ("y", 2.0), ("z", 3.0))]
    text = render(records, "T", "y")
    assert "## `x` beside `y`" in text and "## `z` beside `y`" in text and "## `y` beside" not in text
    assert "## `y` beside `x`" in render(records, "T") and "beside `" not in render(records[:1], "T")
    with pytest.raises(RecordError, match="no record has the label 'w'; labels: 'x', 'y', 'z'"):
        render(records, "T", "w")
