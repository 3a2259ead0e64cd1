"""What the overhead study counts, and that it ends in time with what it has."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from evaluation import service_study
from evaluation.service_study import beyond, main
from tools.types import Evaluation, Evidence, Status

PHASES = {"check": 2.0, "check.first_call": 1.2, "baseline": 0.5, "timing": 1.0, "timing.blocks": 0.6, "timing.fresh_inputs": 0.3}


def evaluation(status: Status = Status.PASSED) -> Evaluation:
    return Evaluation(
        candidate_id="0", problem_id="p", target="cuda", evidence=Evidence.MEASURED, status=status, reason="", seconds=4.0, phases_s=PHASES
    )


@pytest.mark.parametrize(("is_cpu", "expected"), [(False, 4.0 - 0.6 - 0.5 - 1.2), (True, 4.0 - 0.6 - 0.5)])
def test_compiling_and_timed_blocks_are_no_overhead(is_cpu: bool, expected: float) -> None:
    found = beyond(evaluation(), is_cpu=is_cpu)
    assert found["overhead_s"] == pytest.approx(expected) and found["overhead_without_sweeps_s"] == pytest.approx(expected - 0.3)
    assert found["outside_phases_s"] == pytest.approx(0.5) and found["phases_s"] == PHASES


class Stuck:
    """An evaluator that answers a few times and then never again."""

    def __init__(self, home: Path) -> None:
        self._calls = 0

    def __enter__(self) -> Stuck:
        return self

    def __exit__(self, *exc: object) -> None:
        pass

    def evaluate(self, *arguments: Any) -> Evaluation:
        self._calls += 1
        if self._calls > 4:
            signal.pause()
        return evaluation()

    def device_facts(self, target: str) -> dict[str, str]:
        return {"device": "none"}


def test_a_study_whose_evaluation_hangs_ends_with_what_it_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tools.evaluator.LocalEvaluator", Stuck)
    monkeypatch.setattr(service_study, "time", SimpleNamespace(monotonic=lambda: 0.0))
    path = tmp_path / "records.jsonl"
    assert main(["overhead", "--records", str(path), "--evaluations", "9", "--seconds", "4.5"]) == 0
    records = [json.loads(line) for line in path.read_text().splitlines()]
    assert [item.get("counts") for item in records] == [False, False, True, True, None]
    assert records[-1]["evaluations"] == 2 and records[-1]["asked_for"] == 9 and records[-1]["median_s"] == records[2]["overhead_s"]
