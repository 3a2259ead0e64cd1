"""The study of disturbers: who is tried, in which order, and what counts as unaffected. An evaluator of no cost; the real one runs in the study."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from evaluation.containment import DISTURBERS, HONEST, disturbers, judge, study
from tools.selftest.fixtures import load_fixtures
from tools.types import QUICK, Candidate, Effort, Evaluation, Evidence, Problem, Status


def honest(latency_ms: float = 1.0, seconds: float = 2.0, status: Status = Status.PASSED) -> Evaluation:
    passed = status is Status.PASSED
    return Evaluation("a", "p", "cpu", Evidence.MEASURED, status, latency_ms=latency_ms if passed else None, seconds=seconds)


def stopped(status: Status = Status.TIMEOUT, check_s: float = 10.5) -> Evaluation:
    return Evaluation("b", "p", "cpu", Evidence.MEASURED, status, reason="too long", phases_s={"check": check_s})


BEFORE = [honest(1.0), honest(1.02), honest(0.98)]


def test_disturbers_of_a_target_are_fixtures_of_the_self_test_and_one_that_touches_shared_memory() -> None:
    names = {item.name for item in load_fixtures("cpu")} | {item.name for item in load_fixtures("cuda")}
    assert set(DISTURBERS) - names == {"h18_shared_memory_hog"}
    assert {"d12_python_loop", "h18_fork_bomb", "h17_sigterm_setsid", "h18_memory_hog"} <= {item.name for item in disturbers("cpu")}
    assert {"d12_gpu_hang", "h18_device_memory_hog"} <= {item.name for item in disturbers("cuda:sm_90")}
    assert all(HONEST[target] in {item.name for item in load_fixtures(target)} for target in ("cpu", "cuda"))
    assert [item.name for item in disturbers("cpu", ["h18_fork_bomb"])] == ["h18_fork_bomb"]


@pytest.mark.parametrize(
    ("disturbed", "after", "again_s", "left", "expected", "unaffected"),
    [
        (stopped(), honest(1.1), 0.1, 0, True, True),
        (stopped(check_s=15.5), honest(1.1), 0.1, 0, False, True),  # ended too late
        (stopped(), honest(1.1), 7.0, 0, False, True),  # not remembered
        (stopped(), honest(1.1), 0.1, 1, False, True),  # something is left
        (stopped(Status.PASSED), honest(1.1), None, 0, False, True),
        (stopped(), honest(1.4), 0.1, 0, True, False),
        (stopped(), honest(0.7), 0.1, 0, True, False),
        (stopped(), honest(1.0, seconds=6.0), 0.1, 0, True, False),
        (stopped(), honest(status=Status.RUNTIME_ERROR), 0.1, 0, True, False),
    ],
)
def test_what_counts(disturbed: Evaluation, after: Evaluation, again_s: float | None, left: int, expected: bool, unaffected: bool) -> None:
    found = judge(("timeout",), disturbed, 10.0, BEFORE, after, again_s, left)
    assert (found["is_as_expected"], found["next_unaffected"]) == (expected, unaffected)


class Scripted:
    """Answers as its fixtures expect, and writes down what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, float]] = []
        self._expected = {item.candidate().candidate_id: item for item in disturbers("cpu")}

    def evaluate(self, candidate: Candidate, problem: Problem, target: str, effort: Effort = QUICK) -> Evaluation:
        item = self._expected.get(candidate.candidate_id)
        self.asked.append((item.name if item else "honest", effort.timeout_s))
        return dataclasses.replace(stopped(Status(item.expect[0])), reason="x") if item else honest()


def test_an_honest_candidate_comes_after_each_and_a_hang_is_tried_twice() -> None:
    evaluator = Scripted()
    chosen = disturbers("cpu", ["d12_python_loop", "h18_fork_bomb"])
    records: list[dict[str, Any]] = list(study(evaluator, "cpu", chosen, before=2, seconds=60.0))
    names = [name for name, _ in evaluator.asked]
    assert names == [*["honest"] * 3, "d12_python_loop", "honest", "d12_python_loop", "h18_fork_bomb", "honest"]
    assert {limit for name, limit in evaluator.asked if name != "honest"} == {10.0}
    last = records[-1]
    assert (last["disturbers"], last["as_expected"], last["next_unaffected"], last["asked_for"]) == (2, 2, 2, 2)
    assert list(study(evaluator, "cpu", chosen, before=1, seconds=-1.0))[-1]["disturbers"] == 0
