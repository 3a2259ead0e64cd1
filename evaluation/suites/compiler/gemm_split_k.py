# mypy: ignore-errors
"""Matrix product whose inner dimension is divided among programs that add their parts atomically."""

import torch
import triton
import triton.language as tl


@triton.jit
def gemm_split_k(a_ptr, b_ptr, c_ptr, M, N, K, SPLITS: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    m = tl.program_id(0) * BM + tl.arange(0, BM)
    n = tl.program_id(1) * BN + tl.arange(0, BN)
    acc = tl.zeros((BM, BN), dtype=tl.float32)
    for start in range(tl.program_id(2) * BK, K, BK * SPLITS):
        k = start + tl.arange(0, BK)
        a = tl.load(a_ptr + m[:, None] * K + k[None, :], mask=(m[:, None] < M) & (k[None, :] < K), other=0.0)
        b = tl.load(b_ptr + k[:, None] * N + n[None, :], mask=(k[:, None] < K) & (n[None, :] < N), other=0.0)
        acc = tl.dot(a, b, acc)
    tl.atomic_add(c_ptr + m[:, None] * N + n[None, :], acc, mask=(m[:, None] < M) & (n[None, :] < N), sem="relaxed")


def launch(a, b):
    (M, K), N = a.shape, b.shape[1]
    c = torch.zeros((M, N), device=a.device, dtype=torch.float32)
    grid = (triton.cdiv(M, 64), triton.cdiv(N, 64), 8)
    gemm_split_k[grid](a, b, c, M, N, K, SPLITS=8, BM=64, BN=64, BK=32, num_warps=4, num_stages=2)
    return c


EXAMPLE = {"a": {"shape": [128, 16384], "dtype": "float16"}, "b": {"shape": [16384, 128], "dtype": "float16"}}
