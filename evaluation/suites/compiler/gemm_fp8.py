# mypy: ignore-errors
"""Matrix product of 8-bit floats (e5m2, which every target reads), accumulated in float32."""

import torch
import triton
import triton.language as tl


@triton.jit
def gemm_fp8(a_ptr, b_ptr, c_ptr, M, N, K, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, GROUP: tl.constexpr):
    tile = tl.program_id(0)
    rows, columns = tl.cdiv(M, BM), tl.cdiv(N, BN)
    group = tile // (GROUP * columns)
    height = min(rows - group * GROUP, GROUP)
    tile_m = group * GROUP + (tile % (GROUP * columns)) % height
    tile_n = (tile % (GROUP * columns)) // height
    m = tile_m * BM + tl.arange(0, BM)
    n = tile_n * BN + tl.arange(0, BN)
    k = tl.arange(0, BK)
    acc = tl.zeros((BM, BN), dtype=tl.float32)
    for start in range(0, K, BK):
        a = tl.load(a_ptr + m[:, None] * K + start + k[None, :], mask=(m[:, None] < M) & (start + k[None, :] < K), other=0.0)
        b = tl.load(b_ptr + (start + k)[:, None] * N + n[None, :], mask=(start + k[:, None] < K) & (n[None, :] < N), other=0.0)
        acc = tl.dot(a, b, acc)
    tl.store(c_ptr + m[:, None] * N + n[None, :], acc.to(tl.float16), mask=(m[:, None] < M) & (n[None, :] < N))


def launch(a, b):
    (M, K), N = a.shape, b.shape[1]
    c = torch.empty((M, N), device=a.device, dtype=torch.float16)
    grid = (triton.cdiv(M, 128) * triton.cdiv(N, 128),)
    gemm_fp8[grid](a, b, c, M, N, K, BM=128, BN=128, BK=64, GROUP=8, num_warps=8, num_stages=2)
    return c


EXAMPLE = {"a": {"shape": [2048, 1024], "dtype": "float8_e5m2"}, "b": {"shape": [1024, 2048], "dtype": "float8_e5m2"}}
