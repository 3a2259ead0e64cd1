"""Winners before another scorer: which are taken, and what counts as agreement. The scorer here is a planted package of the same shape."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from evaluation.records import Record
from evaluation.scorer_agreement import Winner, agreement, compared, score_apart, winners
from tools.types import Composition, Evaluation, Evidence, Interval, Status

SCORER = """
from openai import OpenAI
from litellm import completion
from dotenv import load_dotenv
load_dotenv()
class Result:
    def __init__(self, right, runtime):
        self.compiled, self.correctness, self.runtime, self.ref_runtime = True, right, runtime, 2.0
        self.runtime_stats, self.ref_runtime_stats, self.metadata = {"mean": runtime}, {"mean": 2.0}, {"note": ValueError("x")}
def eval_kernel_against_ref(original_model_src, custom_model_src, num_correct_trials, num_perf_trials, measure_performance, timing_method, build_dir, backend):
    print("noise")
    return Result("wrong" not in custom_model_src, 0.5)
"""


def record(problem_id: str, speedup: float, *, source: str = "class ModelNew: pass", status: Status = Status.PASSED) -> Record:
    passed = status is Status.PASSED
    evaluation = Evaluation(
        candidate_id="c", problem_id=problem_id, target="cuda:sm_90", evidence=Evidence.MEASURED, status=status, composition=Composition.CUSTOM,
        latency_ms=1.0 if passed else None, speedup={"eager": Interval(speedup, speedup, speedup)} if passed else {},
    )  # fmt: skip
    return Record("kernelbench", problem_id, "cuda:sm_90", evaluation.to_json(), 1, 1.0, "", {}, source=source, label=str(speedup))


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    package = tmp_path / "src" / "kernelbench"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "eval.py").write_text(SCORER)
    level = tmp_path / "KernelBench" / "level1"
    level.mkdir(parents=True)
    body = "class Model:\n    pass\ndef get_inputs():\n    return []\ndef get_init_inputs():\n    return []\n"
    for number in (1, 2):
        (level / f"{number}_thing.py").write_text(body)
    return tmp_path


def test_the_best_passed_record_of_each_problem_is_taken(checkout: Path) -> None:
    records = [
        record("kernelbench:1/1", 1.5), record("kernelbench:1/1", 2.5), record("kernelbench:1/2", 1.0, status=Status.TIMEOUT),
        record("kernelbench:1/99", 3.0), record("kernelbench:1/2", 4.0, source=""),
    ]  # fmt: skip
    found = winners(records, checkout)
    assert [(item.record.problem_id, item.record.evaluation.fitness) for item in found] == [("kernelbench:1/1", 2.5)]
    assert "class Model" in found[0].reference


@pytest.mark.parametrize(("source", "agrees", "speed"), [("fine", True, 4.0), ("wrong", False, 4.0)])
def test_a_winner_is_scored_in_a_process_of_its_own(checkout: Path, source: str, agrees: bool, speed: float) -> None:
    winner = Winner(record("kernelbench:1/1", 2.0, source=f"# {source}"), "class Model: pass")
    (found,) = agreement([winner], checkout, seconds=300.0, trials=1, calls=1)
    assert found["agrees"] is agrees and found["their_speedup"] == speed
    assert bool(found["control_reference_as_candidate"]) is not agrees
    if source == "fine":
        assert found["theirs"]["metadata"] == {"note": "x"} and set(found["theirs"]["stand_ins"]) <= {"openai", "litellm", "dotenv"}


def test_a_scorer_that_cannot_judge_the_reference_judges_nothing() -> None:
    winner = Winner(record("kernelbench:1/95", 2.0), "")
    wrong: dict[str, Any] = {"correctness": False}
    assert compared(winner, wrong, wrong)["agrees"] is None
    assert compared(winner, wrong, {"correctness": True})["agrees"] is False


def test_a_missing_scorer_is_an_answer(tmp_path: Path) -> None:
    answer = score_apart({"reference": "", "candidate": "", "checkout": str(tmp_path), "trials": 1, "calls": 1}, 120.0)
    assert "kernelbench" in answer["error"]
