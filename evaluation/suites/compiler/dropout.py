# mypy: ignore-errors
"""Dropout with counter-based random numbers."""

import torch
import triton
import triton.language as tl


@triton.jit
def dropout(x_ptr, y_ptr, n, p, seed, BLOCK: tl.constexpr):
    index = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + index, mask=index < n, other=0.0)
    keep = tl.rand(seed, index) > p
    tl.store(y_ptr + index, tl.where(keep, x / (1.0 - p), 0.0), mask=index < n)


def launch(x, p=0.5, seed=7):
    y = torch.empty_like(x)
    dropout[(triton.cdiv(x.numel(), 1024),)](x, y, x.numel(), p, seed, BLOCK=1024, num_warps=4)
    return y


EXAMPLE = {"x": {"shape": [1000, 1000], "dtype": "float32"}}
