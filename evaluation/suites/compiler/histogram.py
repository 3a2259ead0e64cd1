# mypy: ignore-errors
"""Counts of small integers: a histogram of each block, added atomically."""

import torch
import triton
import triton.language as tl


@triton.jit
def histogram(x_ptr, counts_ptr, n, BINS: tl.constexpr, BLOCK: tl.constexpr):
    index = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = index < n
    value = tl.load(x_ptr + index, mask=inside, other=0)
    counts = tl.histogram(value, BINS)
    bins = tl.arange(0, BINS)
    padding = tl.sum((~inside).to(tl.int32), 0)
    counts = tl.where(bins == 0, counts - padding, counts)
    tl.atomic_add(counts_ptr + bins, counts, sem="relaxed")


def launch(x):
    counts = torch.zeros(128, device=x.device, dtype=torch.int32)
    histogram[(triton.cdiv(x.numel(), 2048),)](x, counts, x.numel(), BINS=128, BLOCK=2048, num_warps=4)
    return counts


EXAMPLE = {"x": {"shape": [1000000], "dtype": "int32"}}
