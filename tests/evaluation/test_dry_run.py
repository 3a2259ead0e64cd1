"""Runs over a suite without a device: children that cannot hurt, problems made small, records that keep held-out problems closed."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import torch

from evaluation import dry_run, shrunken
from evaluation.forked import call
from evaluation.shrink import Cost, cost_of, shrink
from tools.targets.interpreter import verdict

MATMUL = """import torch
batch, inner, outer = 512, 384, 6
WINDOW = 3
class Model(torch.nn.Module):
    def __init__(self, size):
        super().__init__()
        self.l = torch.nn.Linear(size, 64)
    def forward(self, x):
        assert x.shape[1] % 96 == 0
        return self.l(x)
def get_inputs():
    return [torch.rand(batch, inner)]
def get_init_inputs():
    return [384]
"""


def test_a_child_gives_its_value() -> None:
    assert call(lambda: {"a": [1, 2.5]}, timeout_s=60).value == {"a": [1, 2.5]}


def test_what_a_child_raises_is_told_with_its_place_in_this_repository() -> None:
    outcome = call(lambda: shrink("class Model: pass"), timeout_s=60)
    assert outcome.error == "KeyError" and "get_inputs" in outcome.message
    assert outcome.where and all(place.split(":")[0] in ("shrink.py", "test_dry_run.py") for place in outcome.where)


def test_a_child_that_hangs_or_exits_costs_itself_alone() -> None:
    assert call(lambda: time.sleep(600), timeout_s=0.2).error == "timeout"
    assert call(lambda: __import__("os")._exit(3), timeout_s=60).error == "crash"


def test_a_problem_is_halved_while_it_stays_valid() -> None:
    small = shrink(MATMUL, Cost(elements=8_000, flops=1e9))
    assert small.fits and small.cost.elements <= 8_000
    assert "WINDOW = 3" in small.source and small.source.splitlines()[1].endswith(", 6")
    assert "size, 64" in small.source
    assert cost_of(small.source) == small.cost


def test_what_cannot_shrink_enough_says_so() -> None:
    small = shrink(MATMUL, Cost(elements=10, flops=10))
    assert not small.fits and "% 96" in small.source


def test_a_problem_that_fits_is_left_as_it_is() -> None:
    assert shrink(MATMUL, Cost(1e9, 1e9)).source == MATMUL


def test_records_of_held_out_problems_hold_no_content() -> None:
    row = {
        "problem": "kernelbench:1/8",
        "part": "held",
        "is_captured": True,
        "custom_share": 0.9,
        "share": {"secret_kernel": 0.9},
        "left": {"aten.secret": 0.1},
        "message": "secret",
        "lint_errors": ["L01: secret"],
        "candidates": [
            {"status": "error", "error": "ValueError: secret", "note": "secret", "num_kernels": 1, "shared_bytes": 2, "registers": 3}
        ],
        "results": [{"kernels": ["secret"]}],
    }
    row["candidates"][0] |= {"spills": {"secret": 8}, "seconds": 1.0}  # type: ignore[index]
    told = dry_run.without_content(row)
    assert "secret" not in json.dumps(told)
    assert told["candidates"][0] | {"error_class": "ValueError", "num_spilling": 1} == told["candidates"][0]


def test_the_summary_counts_what_is_dominated_and_compiled(tmp_path: Path) -> None:
    compiled = {"status": "compiled", "shared_bytes": 5, "spills": {}}
    rows = [
        {"part": "seen", "is_captured": True, "custom_share": 0.9, "lint_errors": [], "candidates": [compiled]},
        {"part": "seen", "is_captured": True, "custom_share": 0.2, "lint_errors": [], "candidates": [compiled]},
        {"part": "held", "is_captured": True, "custom_share": 0.9, "lint_errors": [], "candidates": [{**compiled, "status": "error"}]},
        {"part": "held", "is_captured": False, "error": "timeout"},
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"cut of')
    told = dry_run.summary(dry_run.read_rows(path))
    assert (told["seen"]["dominated_and_compiled"], told["all"]["dominated_by_custom_kernels"], told["all"]["dominated_and_compiled"]) == (
        1,
        2,
        1,
    )
    assert told["held"]["not_captured"] == {"timeout": 1}


def test_the_summary_of_values_counts_by_part() -> None:
    rows = [{"part": "seen", "status": "passed"}, {"part": "held", "status": "wrong_values"}]
    assert shrunken.summary(rows)["all"] == {"passed": 1, "wrong_values": 1, "problems": 2}


@pytest.mark.parametrize(
    ("got", "status"),
    [
        (torch.ones(3), None),
        (torch.ones(3) * 1.1, "wrong_values"),
        (torch.ones(4), "wrong_shape"),
        (torch.ones(3, dtype=torch.float16), "wrong_dtype"),
        (None, "wrong_shape"),
    ],
)
def test_an_output_is_right_or_says_how_it_is_wrong(got: torch.Tensor | None, status: str | None) -> None:
    assert verdict(got, torch.ones(3).double(), torch.ones(3)).get("status") == status


def test_an_integer_output_must_be_equal() -> None:
    assert verdict(torch.tensor([1, 3]), torch.tensor([1, 2]), torch.tensor([1, 2]))["status"] == "wrong_values"
