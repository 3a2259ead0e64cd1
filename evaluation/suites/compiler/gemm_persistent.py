# mypy: ignore-errors
"""Matrix product in bfloat16 by a fixed number of programs that walk the tiles."""

import torch
import triton
import triton.language as tl


@triton.jit
def gemm_persistent(a_ptr, b_ptr, c_ptr, M, N, K, PROGRAMS: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    columns = tl.cdiv(N, BN)
    tiles = tl.cdiv(M, BM) * columns
    for tile in range(tl.program_id(0), tiles, PROGRAMS):
        m = (tile // columns) * BM + tl.arange(0, BM)
        n = (tile % columns) * BN + tl.arange(0, BN)
        acc = tl.zeros((BM, BN), dtype=tl.float32)
        for start in range(0, K, BK):
            k = start + tl.arange(0, BK)
            a = tl.load(a_ptr + m[:, None] * K + k[None, :], mask=(m[:, None] < M) & (k[None, :] < K), other=0.0)
            b = tl.load(b_ptr + k[:, None] * N + n[None, :], mask=(k[:, None] < K) & (n[None, :] < N), other=0.0)
            acc = tl.dot(a, b, acc)
        tl.store(c_ptr + m[:, None] * N + n[None, :], acc.to(tl.bfloat16), mask=(m[:, None] < M) & (n[None, :] < N))


def launch(a, b):
    (M, K), N = a.shape, b.shape[1]
    c = torch.empty((M, N), device=a.device, dtype=a.dtype)
    gemm_persistent[(108,)](a, b, c, M, N, K, PROGRAMS=108, BM=128, BN=64, BK=32, num_warps=4, num_stages=2)
    return c


EXAMPLE = {"a": {"shape": [4096, 512], "dtype": "bfloat16"}, "b": {"shape": [512, 2048], "dtype": "bfloat16"}}
