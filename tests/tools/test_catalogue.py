"""Every documented way to fool an evaluator is accounted for: by fixtures or by tests."""

from __future__ import annotations

import ast
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from sources import MODULE, pointwise_candidate, pointwise_problem

from tools.check.compare import BASE_TOLERANCE, calibrate, compare
from tools.check.decision import reject
from tools.evaluator import LocalEvaluator
from tools.selftest.fixtures import load_fixtures
from tools.types import FULL, QUICK, Candidate, Evaluation, Problem, Status

ROOT = Path(__file__).resolve().parents[2]
CATALOGUE: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "tools" / "selftest" / "catalogue.yaml").read_text(encoding="utf-8"))


def test_every_fixture_has_an_entry_and_every_entry_its_fixture() -> None:
    ids = {item.fixture_id.rstrip("b") for item in load_fixtures() if not item.fixture_id.startswith("FP")}
    assert ids == set(CATALOGUE["fixtures"])


def test_every_documented_control_is_there_and_one_of_a_slow_launch() -> None:
    assert {item.fixture_id for item in load_fixtures() if item.fixture_id.startswith("FP")} == {f"FP{number}" for number in range(1, 19)}


def test_an_entry_stands_in_one_place_only() -> None:
    ids = [name for part in CATALOGUE.values() for name in part]
    assert len(ids) == len(set(ids)) and len(ids) >= 156 and set(CATALOGUE) == {"fixtures", "tests"}


@pytest.mark.parametrize("entry", CATALOGUE["tests"].values(), ids=CATALOGUE["tests"])
def test_the_named_test_exists(entry: dict[str, str]) -> None:
    path, _, name = entry["test"].partition("::")
    defined = {node.name for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))) if isinstance(node, ast.FunctionDef)}
    assert name in defined


def problem(body: str = "torch.tanh(x)") -> Problem:
    return pointwise_problem(body, "catalogue")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("state")


@pytest.fixture(scope="module")
def evaluator(home: Path) -> Iterator[LocalEvaluator]:
    with LocalEvaluator(home, use_compiled_baseline=False) as opened:
        yield opened


def receipt(evaluation: Evaluation) -> dict[str, Any]:
    return dict(json.loads(Path(evaluation.receipt).read_text(encoding="utf-8")))


def test_one_absolute_and_one_relative_offence_both_fail() -> None:
    reference = torch.tensor([1e-3, 1000.0, 1.0, 1.0], dtype=torch.float64)
    native = reference.float()
    bounds = calibrate(reference, native)
    for place, error in ((0, 1.0), (1, 1.0)):  # large relatively, small absolutely; the other way round
        actual = native.clone()
        actual[place] += error
        assert reject(dataclasses.asdict(compare(actual, reference, native, bounds)))


def test_the_float32_tolerance_is_at_most_a_ten_thousandth() -> None:
    assert BASE_TOLERANCE["float32"] <= 1e-4


def test_every_ratio_comes_from_pairs_of_one_session(evaluator: LocalEvaluator) -> None:
    evaluation = evaluator.evaluate(pointwise_candidate("torch.tanh(x)"), problem(), "cpu")
    (workload,) = evaluation.workloads
    assert len(workload.candidate.samples_ms) == len(workload.baselines["eager"].samples_ms) >= 5


def test_an_output_without_elements_says_nothing(evaluator: LocalEvaluator) -> None:
    assert evaluator.evaluate(pointwise_candidate("x[:0] * 2"), problem("x[:0] * 1"), "cpu").status is Status.NOT_MEASURED


def test_the_receipt_counts_the_checks_that_ran(evaluator: LocalEvaluator) -> None:
    written = receipt(evaluator.evaluate(pointwise_candidate("torch.tanh(x)"), problem(), "cpu"))
    assert len(written["checks"]) == QUICK.value_seeds and all(check["statistics"][0]["numel"] == 64 * 96 for check in written["checks"])
    assert written["timings"][0]["verified"] >= 1


def test_two_candidates_never_share_a_build_directory(evaluator: LocalEvaluator, home: Path) -> None:
    made = [pointwise_candidate("torch.tanh(x)", note) for note in ("one", "two")]
    for item in made:
        evaluator.evaluate(item, problem(), "cpu")
    folders = [home / "cache" / "candidates" / item.candidate_id for item in made]
    assert len(set(folders)) == 2 and all(folder.is_dir() for folder in folders)


def test_the_candidate_after_a_hang_is_judged_as_before(evaluator: LocalEvaluator, home: Path) -> None:
    hang = pointwise_candidate("[None for _ in iter(int, 1)]")
    short = dataclasses.replace(QUICK, timeout_s=2.0)
    assert evaluator.evaluate(hang, problem(), "cpu", short).status is Status.TIMEOUT
    assert evaluator.evaluate(pointwise_candidate("torch.tanh(x)"), problem(), "cpu").status is Status.PASSED
    again = evaluator.evaluate(hang, problem(), "cpu", short)  # remembered by its hash: not run a second time
    assert again.status is Status.TIMEOUT and "before" in again.reason
    with LocalEvaluator(
        home, use_compiled_baseline=False
    ) as other:  # another member of the pool, or the service after it was started again
        assert "before" in other.evaluate(hang, problem(), "cpu", short).reason


def test_a_finalist_is_measured_in_fresh_processes(evaluator: LocalEvaluator) -> None:
    candidate, shown = pointwise_candidate("torch.tanh(x)"), []
    for effort in (QUICK, QUICK, dataclasses.replace(FULL, value_seeds=1, pairs=5, min_block_ms=0.1)):
        assert evaluator.evaluate(candidate, problem(), "cpu", effort).status is Status.PASSED
        shown.append(next(reversed(evaluator._sessions.values()))._worker.pid)
    assert shown[0] == shown[1] != shown[2]


def test_a_constant_task_is_refused_with_its_reason(evaluator: LocalEvaluator) -> None:
    evaluation = evaluator.evaluate(pointwise_candidate("x * 0"), problem("torch.relu(-torch.abs(x))"), "cpu")
    assert evaluation.status is Status.NOT_MEASURED and "zeros" in evaluation.reason


def test_an_interpreter_switch_of_the_caller_does_not_reach_candidates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    source = "import os\nassert 'TRITON_INTERPRET' not in os.environ\n" + MODULE.format(name="ModelNew", body="torch.tanh(x)")
    with LocalEvaluator(tmp_path, use_compiled_baseline=False) as fresh:
        evaluation = fresh.evaluate(Candidate(source, language="torch"), problem(), "cpu")
    assert (evaluation.status, evaluation.reason) == (Status.PASSED, "")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a device here")
def test_a_target_without_its_device_is_not_measured(evaluator: LocalEvaluator) -> None:
    evaluation = evaluator.evaluate(pointwise_candidate("torch.tanh(x)"), problem(), "cuda")
    assert evaluation.status is Status.NOT_MEASURED and evaluation.latency_ms is None and not evaluation.speedup
