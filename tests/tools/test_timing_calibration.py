"""Calibration: what a machine's disagreement with itself does to intervals. The real evaluator measures; the statistics are tried on known numbers."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest

from tools.errors import MachineError
from tools.evaluator import LocalEvaluator
from tools.problems import problem_from_source
from tools.receipts import read_receipt
from tools.replay import compare, compare_machines, replay_receipt
from tools.timing.calibration import Comparison, compare_with_itself, read_spread, summarise, widen, write_calibration
from tools.types import QUICK, Candidate, Interval, Status

FACTS = {"device": "cpu", "num_threads": 2}

PROBLEM = problem_from_source(
    "import torch\nfrom torch import nn\nclass Model(nn.Module):\n    def forward(self, x):\n        return torch.tanh(x)\n"
    "def get_inputs():\n    return [torch.randn(64, 100)]\ndef get_init_inputs():\n    return []\n",
    problem_id="calibration/tanh",
)
COPY = Candidate(PROBLEM.source + "\n\nModelNew = Model\n", language="torch")


def comparison(value: float, half: float = 0.01, slow_down: float = 0.0) -> Comparison:
    return Comparison("relu", slow_down, "passed", Interval(value, value * math.exp(-half), value * math.exp(half)), 1.0)


def test_sessions_that_differ_by_more_than_their_intervals_have_a_spread() -> None:
    generator = np.random.default_rng(1)
    found = [comparison(math.exp(value), half=0.002) for value in generator.normal(0.0, 0.05, size=200)]
    assert summarise(FACTS, found).spread == pytest.approx(0.05, rel=0.15)


def test_sessions_that_differ_as_their_intervals_say_have_none() -> None:
    generator = np.random.default_rng(1)
    found = [comparison(math.exp(value), half=1.96 * 0.05) for value in generator.normal(0.0, 0.05, size=2000)]
    assert summarise(FACTS, found).spread < 0.02


def test_widened_intervals_of_copies_claim_a_win_seldom() -> None:
    generator = np.random.default_rng(2)
    found = [comparison(math.exp(value), half=0.002) for value in generator.normal(0.0, 0.05, size=400)]
    spread = summarise(FACTS, found).spread
    wins = sum(widen(item.speedup, spread).low > 1.0 for item in found if item.speedup)
    assert sum(item.claims_win for item in found) > 150 and wins <= 20


def test_power_is_the_share_of_slowed_copies_found_slower() -> None:
    found = [comparison(1.0), *[comparison(value, slow_down=0.05) for value in (0.95, 0.95, 1.0, 0.95)]]
    assert summarise(FACTS, found).detected == {"0.05": 0.75}


def test_without_a_measured_copy_there_is_no_calibration() -> None:
    with pytest.raises(ValueError, match="not_measured: no device"):
        summarise(FACTS, [Comparison("relu", 0.0, "not_measured", None, None, "no device")])


def test_what_is_kept_is_read_back_for_the_same_device_only(tmp_path: Path) -> None:
    result = summarise(FACTS, [comparison(1.1), comparison(0.9)])
    write_calibration(tmp_path, result)
    assert read_spread(tmp_path, FACTS) == pytest.approx(result.spread)
    assert read_spread(tmp_path, {**FACTS, "num_threads": 4}) == 0.0


@pytest.mark.parametrize("text", ["", "[]", '{"spread": "x"}', '{"spread": NaN}', '{"spread": -1}'])
def test_a_file_that_is_no_calibration_widens_nothing(tmp_path: Path, text: str) -> None:
    write_calibration(tmp_path, summarise(FACTS, [comparison(1.1)])).write_text(text)
    assert read_spread(tmp_path, FACTS) == 0.0


def test_copies_that_share_a_pair_of_processes_are_measured_and_their_number_is_kept(tmp_path: Path) -> None:
    with LocalEvaluator(tmp_path, use_compiled_baseline=False) as evaluator:
        found = list(compare_with_itself(evaluator, "cpu", QUICK, comparisons=3, slow_downs=[4.0], per_pair=2))
        facts = evaluator.device_facts("cpu")
    assert [(item.pair, item.slow_down) for item in found] == [(0, 0.0), (0, 0.0), (0, 4.0), (0, 4.0), (1, 0.0), (1, 4.0)]
    assert {item.status for item in found} == {"passed"} and all(len(item.samples_ms["eager"]) >= 5 for item in found)
    result = summarise(facts, found)
    assert facts["device"] == "cpu" and (result.comparisons, result.pairs, result.copies) == (3, 2, {"4": 3})


def test_a_pair_is_judged_by_the_spread_of_the_others() -> None:
    found = [dataclasses.replace(comparison(value, half=0.001), pair=number) for number, value in enumerate((1.0, 1.0, 1.0, 1.2))]
    result = summarise(FACTS, found)
    assert result.spread > 0.05 and result.false_wins_widened == 1


def test_no_pair_is_started_after_the_time_limit(tmp_path: Path) -> None:
    with LocalEvaluator(tmp_path, use_compiled_baseline=False) as evaluator:
        assert list(compare_with_itself(evaluator, "cpu", QUICK, comparisons=3, seconds=-1.0)) == []


def test_a_receipt_is_replayed(tmp_path: Path) -> None:
    with LocalEvaluator(tmp_path, use_compiled_baseline=False) as evaluator:
        evaluator.evaluate(COPY, PROBLEM, "cpu", QUICK)
        (path, *_) = sorted((tmp_path / "receipts").glob("*.json"))
        receipt = read_receipt(path)
        evaluation, lines = replay_receipt(evaluator, receipt)
        assert evaluation.status is Status.PASSED and evaluation.receipt != str(path)
        assert {line.name for line in lines if line.is_decisive} == {"status", "composition", "precision", "speedup over eager"}
        machine = {line.name: line for line in lines if not line.is_decisive}
        assert {"target", "device", "processor", "torch", "compiler", "numeric flags"} <= set(machine)
        assert all(line.agrees and line.then for line in machine.values())
        changed = json.loads(json.dumps(receipt))
        changed["candidate"]["source"] += "# changed"
        with pytest.raises(MachineError, match="hash"):
            replay_receipt(evaluator, changed)
        facts = evaluator.device_facts("cpu")
    write_calibration(tmp_path, dataclasses.replace(summarise(facts, [comparison(1.1)]), spread=0.5))
    with LocalEvaluator(tmp_path, use_compiled_baseline=False) as evaluator:
        widened, _ = replay_receipt(evaluator, receipt)
    interval = widened.speedup["eager"]
    assert interval.high / interval.low > math.exp(2 * 1.9 * 0.5)


def test_what_differs_between_two_machines_is_said_and_decides_nothing() -> None:
    then = {"device": {"device": "NVIDIA H100", "driver": "580", "numeric_flags": {"b": 1, "a": 2}}, "host": {"cores": 16}}
    now = {"device": {"device": "NVIDIA H200", "driver": "580", "numeric_flags": {"a": 2, "b": 1}}, "host": "unreadable"}
    found = {line.name: line for line in compare_machines(then, now)}
    assert not any(line.is_decisive for line in found.values())
    assert {name: line.agrees for name, line in found.items()} == {"device": False, "driver": True, "numeric flags": True, "cores": False}
    assert (found["device"].then, found["device"].now, found["cores"].now) == ("NVIDIA H100", "NVIDIA H200", "not stated")


def test_a_replay_spends_what_the_receipt_states(tmp_path: Path) -> None:
    short = dataclasses.replace(QUICK, pairs=5, min_block_ms=0.5, timeout_s=QUICK.timeout_s / 2)
    with LocalEvaluator(tmp_path, use_compiled_baseline=False) as evaluator:
        receipt = read_receipt(Path(evaluator.evaluate(COPY, PROBLEM, "cpu", short).receipt))
        evaluation, _ = replay_receipt(evaluator, receipt)
        assert read_receipt(Path(evaluation.receipt))["effort"] == dataclasses.asdict(dataclasses.replace(short, timeout_s=QUICK.timeout_s))
        for wrong in ({"pairs": 10**9}, {"timeout_s": float("inf")}, {"timeout_s": None}, {"pairs": True}, {"more": 1}, {"name": 5}):
            with pytest.raises(MachineError, match="cannot be replayed"):
                replay_receipt(evaluator, {**receipt, "effort": {**receipt["effort"], **wrong}})


def test_speedups_agree_where_their_intervals_meet(tmp_path: Path) -> None:
    with LocalEvaluator(tmp_path, use_compiled_baseline=False) as evaluator:
        evaluator.evaluate(COPY, PROBLEM, "cpu", QUICK)
    (path,) = (tmp_path / "receipts").glob("*.json")
    from tools.types import Evaluation

    before = dataclasses.replace(Evaluation.from_json(read_receipt(path)["evaluation"]), speedup={"eager": Interval(1.5, 1.4, 1.6)})
    for interval, agrees in ((Interval(1.6, 1.55, 1.7), True), (Interval(1.8, 1.7, 1.9), False)):
        (line,) = (
            item for item in compare(before, dataclasses.replace(before, speedup={"eager": interval})) if item.name.startswith("speedup")
        )
        assert line.agrees is agrees


def test_a_receipt_without_its_parts_is_refused(tmp_path: Path) -> None:
    with LocalEvaluator(tmp_path) as evaluator, pytest.raises(MachineError, match="cannot be replayed"):
        replay_receipt(evaluator, {"schema": 1})
