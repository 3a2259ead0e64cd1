# id: FP5
# family: controls
# problem: mean_loss
# target: cuda
# expect: passed
"""Atomic accumulation: not bitwise repeatable, within tolerance."""

import torch
import triton
import triton.language as tl
from torch import nn


@triton.jit
def squared_difference(a, b, out, count, BLOCK: tl.constexpr, STEPS: tl.constexpr):
    start = tl.program_id(0).to(tl.int64) * BLOCK * STEPS
    total = tl.zeros([BLOCK], dtype=tl.float32)
    for step in range(STEPS):
        offsets = start + step * BLOCK + tl.arange(0, BLOCK)
        mask = offsets < count
        difference = tl.load(a + offsets, mask=mask, other=0.0) - tl.load(b + offsets, mask=mask, other=0.0)
        total += difference * difference
    tl.atomic_add(out, tl.sum(total, axis=0) / count)


class ModelNew(nn.Module):
    def forward(self, predictions, targets):
        out = torch.zeros((), dtype=predictions.dtype, device=predictions.device)
        count = predictions.numel()
        squared_difference[(triton.cdiv(count, 65536),)](predictions, targets, out, count, BLOCK=1024, STEPS=64)
        return out
