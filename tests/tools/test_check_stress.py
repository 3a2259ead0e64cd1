"""What a candidate that is right goes through besides: other sizes, a broken copy, kernels left out. No device; the real evaluator where processes matter."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import pytest

from tools.check.held_out import changed, choose, free_sizes, prime_below
from tools.check.stress import StressRecord, labels
from tools.evaluator import LocalEvaluator
from tools.problems import problem_from_source
from tools.types import FULL, Candidate, Status
from tools.worker.trace import without_launches

SIZES = """
rows, columns, depth, small = 128, 4096, 64, 3
shape = (rows * 2, 7)
unrelated = 1000
def more():
    return rows
def get_inputs():
    return [(more(), columns), shape, [depth for _ in range(small)]]
def get_init_inputs():
    return [depth]
"""
LINEAR = problem_from_source(
    "import torch\nfrom torch import nn\nbatch, width = 32, 48\n"
    "class Model(nn.Module):\n    def __init__(self, width):\n        super().__init__()\n        self.linear = nn.Linear(width, width)\n"
    "    def forward(self, x):\n        return torch.tanh(self.linear(x))\n"
    "def get_inputs():\n    return [torch.randn(batch, width)]\ndef get_init_inputs():\n    return [width]\n",
    problem_id="stress/linear",
)


def module(text: str) -> ModuleType:
    made = ModuleType("problem")
    exec(text, made.__dict__)
    return made


def test_sizes_that_the_generator_reads_become_the_next_smaller_primes() -> None:
    assert free_sizes(module(SIZES)) == {"columns": 4093, "depth": 61, "rows": 127, "shape": (251, 5)}


@pytest.mark.parametrize(("number", "prime"), [(4, 3), (5, 3), (8, 7), (4096, 4093), (3, 2)])
def test_the_prime_below(number: int, prime: int) -> None:
    assert prime_below(number) == prime


def test_changes_that_alter_the_model_are_left_out_and_all_are_undone() -> None:
    problem = module(SIZES)
    before = dict(problem.__dict__)
    chosen = choose(problem, lambda: problem.get_init_inputs() == [64])
    assert set(chosen) == {"columns", "rows", "shape"}
    assert problem.__dict__ == before
    with pytest.raises(ZeroDivisionError), changed(problem, chosen):
        assert problem.rows == 127
        raise ZeroDivisionError
    assert problem.__dict__ == before


def test_nothing_is_chosen_where_nothing_works() -> None:
    assert choose(module(SIZES), lambda: False) == {}


def evaluate(tmp_path: Path, body: str) -> tuple[tuple[str, ...], Status, dict[str, object]]:
    source = LINEAR.source.replace("class Model(", "class ModelNew(").replace("return torch.tanh(self.linear(x))", body)
    with LocalEvaluator(tmp_path, use_compiled_baseline=False, use_lint=False) as evaluator:
        evaluation = evaluator.evaluate(Candidate(source, language="torch"), LINEAR, "cpu", FULL)
    receipt = json.loads(Path(evaluation.receipt).read_text(encoding="utf-8"))
    return evaluation.labels, evaluation.status, receipt["stress"]


@pytest.mark.slow
def test_a_finalist_is_tried_on_another_size_and_its_broken_copy_is_rejected(tmp_path: Path) -> None:
    found, status, stress = evaluate(tmp_path, "return torch.tanh(self.linear(x))")
    assert status is Status.PASSED and "shape_specialised" not in found
    assert stress["held_out"] == {"values": {"batch": 31}, "is_right": True, "reason": "", "by_library": False}
    assert "outside the tolerance" in str(stress["broken_copy"]) and stress["repeats"]


@pytest.mark.slow
def test_a_finalist_that_is_wrong_on_another_size_is_labelled(tmp_path: Path) -> None:
    found, status, stress = evaluate(tmp_path, "return torch.tanh(self.linear(x)) * (x.shape[0] == 32)")
    assert status is Status.PASSED and "shape_specialised" in found and not stress["held_out"]["is_right"]  # type: ignore[index]


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (StressRecord(), ()),
        (StressRecord(held_out={"is_right": True, "by_library": False}), ()),
        (StressRecord(held_out={"is_right": True, "by_library": True}), ("shape_specialised",)),
        (StressRecord(held_out={"is_right": False}), ("shape_specialised",)),
        (StressRecord(differing=1, reuses_output=True), ("not_bitwise_repeatable", "reuses_output_buffer")),
    ],
)
def test_labels_follow_from_what_was_found(record: StressRecord, expected: tuple[str, ...]) -> None:
    assert labels(record, 1.0) == expected


def test_a_call_of_a_few_microseconds_is_labelled() -> None:
    assert labels(StressRecord(), 0.0099) == ("overhead_bound",) and labels(StressRecord(), 0.0101) == ()


def test_launches_are_left_out_and_counted_only_inside_the_context() -> None:
    triton = pytest.importorskip("triton")

    @triton.jit
    def kernel(x):
        pass

    with without_launches() as counts:
        kernel[(1,)](object())  # without a device this would raise
        kernel[(4,)](None)
    assert counts == {"left_out": 2}
    with pytest.raises(Exception, match=r".+"):
        kernel[(1,)](object())
    assert counts == {"left_out": 2}
