# mypy: ignore-errors
"""A matrix transposed by square tiles."""

import torch
import triton
import triton.language as tl


@triton.jit
def transpose(x_ptr, y_ptr, M, N, BLOCK: tl.constexpr):
    m = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    n = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + m[:, None] * N + n[None, :], mask=(m[:, None] < M) & (n[None, :] < N))
    tl.store(y_ptr + n[:, None] * M + m[None, :], tl.trans(x), mask=(n[:, None] < N) & (m[None, :] < M))


def launch(x):
    M, N = x.shape
    y = torch.empty((N, M), device=x.device, dtype=x.dtype)
    transpose[(triton.cdiv(M, 64), triton.cdiv(N, 64))](x, y, M, N, BLOCK=64, num_warps=4)
    return y


EXAMPLE = {"x": {"shape": [3000, 5000], "dtype": "float32"}}
