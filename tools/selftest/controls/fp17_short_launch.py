# id: FP17
# family: controls
# problem: short
# target: cuda
# expect: passed
"""An honest kernel of a few microseconds whose launch takes the host longer than that."""

import torch
import triton
import triton.language as tl
from torch import nn


@triton.jit
def tanh(x, y, count, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    values = tl.load(x + at, mask=at < count)
    decay = tl.exp(-2.0 * tl.abs(values))
    found = (1.0 - decay) / (1.0 + decay)
    tl.store(y + at, tl.where(values < 0, -found, found), mask=at < count)


class ModelNew(nn.Module):
    def forward(self, x):
        y = torch.empty_like(x)
        tanh[(triton.cdiv(x.numel(), 1024),)](x, y, x.numel(), BLOCK=1024)
        return y
