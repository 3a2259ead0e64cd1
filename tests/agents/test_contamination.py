"""Whose work a result is: an answer that was in the knowledge base, or in the reference, is named, whatever its names; independent work is not."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from landscape import PROBLEM, LandscapeEvaluator, candidate_at, config, machinery, search
from test_search import ScriptedCoder

from agents.contamination import likenesses, report, shingles
from agents.prompts import render
from kb.store import KnowledgeBase
from kb.types import Winner

KERNEL = """
import torch
import triton
import triton.language as tl


@triton.jit
def gate_kernel(x_ptr, gate_ptr, out_ptr, columns, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    for start in range(0, columns, BLOCK):
        col = start + tl.arange(0, BLOCK)
        mask = col < columns
        x = tl.load(x_ptr + row * columns + col, mask=mask, other=0.0).to(tl.float32)
        gate = tl.load(gate_ptr + row * columns + col, mask=mask, other=0.0).to(tl.float32)
        tl.store(out_ptr + row * columns + col, x * tl.sigmoid(gate) + tl.minimum(x, gate) * 0.25, mask=mask)


class ModelNew(torch.nn.Module):
    def forward(self, x, gate):
        out = torch.empty_like(x)
        gate_kernel[(x.shape[0],)](x, gate, out, x.shape[1], BLOCK=1024, num_warps=8)
        return out
"""
OTHER = '''
import ctypes
import torch

SOURCE = r"""
extern "C" void run(const float* a, const float* b, float* c, long n) {
  for (long i = 0; i < n; ++i) { float s = 0; for (long k = 0; k < 16; ++k) s += a[i * 16 + k] / (1 + b[k]); c[i] = s * s; }
}
"""


class ModelNew(torch.nn.Module):
    def forward(self, a, b):
        c = a.new_empty(a.shape[0])
        LIBRARY.run(a.data_ptr(), b.data_ptr(), c.data_ptr(), ctypes.c_long(a.shape[0]))
        return c
'''


@pytest.fixture
def base(tmp_path: Path) -> Iterator[KnowledgeBase]:
    with KnowledgeBase.open(tmp_path / "kb", embedder="hashing") as opened:
        yield opened


def planted(base: KnowledgeBase, source: str, problem_hash: str = PROBLEM.source_hash) -> str:
    evaluation = {"speedup": {"eager": {"value": 2.0, "low": 1.9, "high": 2.1}}}
    return base.add_winner(Winner("planted", problem_hash, "hill", "cpu", "c1", source, "triton", {}, evaluation, "an earlier run"))


def renamed(source: str) -> str:
    for number, name in enumerate(
        ("gate_kernel", "x_ptr", "gate_ptr", "out_ptr", "columns", "BLOCK", "row", "col", "mask", "start", "gate", "x")
    ):
        source = re.sub(rf"(?<![.\w]){name}\b", f"name{number}", source)
    return source.replace("    row", "    # another comment\n    row")


def test_planted_answer_is_named_even_under_other_names(base: KnowledgeBase) -> None:
    winner_id = planted(base, KERNEL)
    for source in (KERNEL, renamed(KERNEL)):
        (found, *_) = report(base, PROBLEM, "cpu", source)
        assert (found.kind, found.source, found.is_same_problem, found.label) == ("winner", winner_id, True, "copy")


def test_winner_of_another_problem_is_named_as_such(base: KnowledgeBase) -> None:
    planted(base, KERNEL, "another problem")
    assert [item.is_same_problem for item in report(base, PROBLEM, "cpu", KERNEL)] == [False]


def test_independent_kernel_is_nobodys_work(base: KnowledgeBase) -> None:
    planted(base, KERNEL)
    assert report(base, PROBLEM, "cpu", OTHER) == ()


def test_frame_that_every_writer_gets_is_not_counted(base: KnowledgeBase) -> None:
    (frame,) = re.findall(r"```python\n(.*?)```", render("skeleton_cpp.md"), re.DOTALL)
    planted(base, frame)
    assert report(base, PROBLEM, "cpu", frame) == () and report(base, PROBLEM, "cpu", OTHER) == ()


def test_reference_handed_back_is_named() -> None:
    source = "import torch\n\n\nclass Model(torch.nn.Module):\n    def forward(self, x):\n        y = torch.softmax(x * 2.0 + 1.0, dim=-1)\n        return (y - y.mean()).clamp(min=0.5, max=0.75) / y.std()\n"
    problem = dataclasses.replace(PROBLEM, source=source + "\n\ndef get_inputs():\n    return [torch.randn(4, 4)]\n")
    (found,) = report(None, problem, "cpu", source.replace("Model", "ModelNew"))
    assert (found.kind, found.source, found.is_same_problem) == ("reference", PROBLEM.problem_id, True) and found.share > 0.9


def test_empty_source_is_like_nothing() -> None:
    assert shingles("") == frozenset() and likenesses("", []) == ()


def test_published_result_says_whose_work_it_is(tmp_path: Path, base: KnowledgeBase) -> None:
    body = "".join(f"value_{number} = {number} * other[{number}] + third({number}, {number + 1})\n" for number in range(9))
    winner_id = planted(base, candidate_at((9, 4), body).source)
    coder = ScriptedCoder(candidate_at((9, 4), body))
    tools = machinery(LandscapeEvaluator(), coder, base=base)
    _, _, result = search(tmp_path, config("one_shot", 3, max_seeds=0, strategy_options={"drafts": "1"}), tools)
    told = result["contamination"]
    assert [(item["kind"], item["source"], item["label"]) for item in told] == [("winner", winner_id, "copy")]  # type: ignore[attr-defined]  # JSON
    again = search(
        tmp_path / "again", config("one_shot", 3, strategy_options={"drafts": "1"}), machinery(coder=ScriptedCoder(candidate_at((1, 1))))
    )
    assert again[2]["contamination"] == []
