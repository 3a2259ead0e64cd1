# mypy: ignore-errors
"""Rotary position encoding of queries, in place of two gathers and four products."""

import torch
import triton
import triton.language as tl


@triton.jit
def rotary(x_ptr, cos_ptr, sin_ptr, out_ptr, LENGTH, HALF: tl.constexpr):
    row = tl.program_id(0)
    position = row % LENGTH
    d = tl.arange(0, HALF)
    base = row.to(tl.int64) * (2 * HALF)
    low = tl.load(x_ptr + base + d).to(tl.float32)
    high = tl.load(x_ptr + base + HALF + d).to(tl.float32)
    cos = tl.load(cos_ptr + position * HALF + d)
    sin = tl.load(sin_ptr + position * HALF + d)
    tl.store(out_ptr + base + d, (low * cos - high * sin).to(out_ptr.dtype.element_ty))
    tl.store(out_ptr + base + HALF + d, (high * cos + low * sin).to(out_ptr.dtype.element_ty))


def launch(x, cos, sin):
    out = torch.empty_like(x)
    rotary[(x.numel() // x.shape[-1],)](x, cos, sin, out, x.shape[-2], HALF=x.shape[-1] // 2, num_warps=1)
    return out


EXAMPLE = {"x": {"shape": [4, 16, 1024, 128], "dtype": "bfloat16"}} | {
    name: {"shape": [1024, 64], "dtype": "float32"} for name in ("cos", "sin")
}
