# id: FP6
# family: controls
# problem: pointwise_chain
# target: cuda
# expect: passed
# composition: custom
"""Several times faster than eager, because eager is not fused."""

import torch
import triton
import triton.language as tl
from torch import nn


@triton.jit
def chain(x, y, count, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    value = tl.load(x + at, mask=at < count)
    bounded = tl.minimum(tl.maximum((value * 2.0 + 1.0) * 0.5 - 0.25, -1.0), 1.0)
    tl.store(y + at, bounded * 3.0 + value, mask=at < count)


class ModelNew(nn.Module):
    def forward(self, x):
        y = torch.empty_like(x)
        chain[(triton.cdiv(x.numel(), 1024),)](x, y, x.numel(), BLOCK=1024)
        return y
