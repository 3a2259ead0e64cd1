"""Sources that several tests use: a problem of one expression, and a Triton kernel that triples its input."""

from __future__ import annotations

from tools.problems import problem_from_source
from tools.types import Candidate, Problem

MODULE = """
import torch
from torch import nn
class {name}(nn.Module):
    def forward(self, x):
        return {body}
"""
_INPUTS = """
def get_inputs():
    return [{inputs}]
def get_init_inputs():
    return []
"""


def pointwise_problem(body: str, problem_id: str, inputs: str = "torch.randn(64, 96)") -> Problem:
    """Return the problem whose reference returns an expression of `x`."""
    return problem_from_source(MODULE.format(name="Model", body=body) + _INPUTS.format(inputs=inputs), problem_id=problem_id)


def pointwise_candidate(body: str, note: str = "") -> Candidate:
    """Return a candidate in PyTorch that returns an expression of `x`; a note makes it another one."""
    return Candidate(MODULE.format(name="ModelNew", body=body) + (f"# {note}" if note else ""), language="torch")


TRIPLE = pointwise_problem("x * 3.0", "triple", inputs="torch.randn(4096)")
TRIPLE_KERNEL = """
import torch
import triton
import triton.language as tl
from torch import nn


@triton.jit
def triple(x, y, n, BLOCK: tl.constexpr):
    index = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(y + index, tl.load(x + index, mask=index < n) * 3.0, mask=index < n)


class ModelNew(nn.Module):
    def forward(self, x):
        y = torch.empty_like(x)
        triple[(triton.cdiv(x.numel(), 1024),)](x, y, x.numel(), BLOCK=1024, num_warps=4)
        return y
"""
DOUBLE_ROWS_KERNEL = """
import torch
import triton
import triton.language as tl


@triton.jit
def double(x_ptr, out_ptr, rows, COLUMNS: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    offset = row[:, None] * COLUMNS + tl.arange(0, COLUMNS)[None, :]
    x = tl.load(x_ptr + offset, mask=(row < rows)[:, None], other=0.0)
    tl.store(out_ptr + offset, tl.maximum(x, 0.0) * 2.0, mask=(row < rows)[:, None])


class ModelNew(torch.nn.Module):
    def forward(self, x):
        out = torch.empty_like(x)
        double[(triton.cdiv(x.shape[0], 16),)](x, out, x.shape[0], COLUMNS=x.shape[1], BLOCK=16)
        return out
"""
