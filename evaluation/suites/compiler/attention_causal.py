# mypy: ignore-errors
"""Causal attention in float16: one block of queries per program, softmax kept running."""

import torch
import triton
import triton.language as tl


@triton.jit
def attention_causal(q_ptr, k_ptr, v_ptr, o_ptr, scale, LENGTH, D: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr):
    head = tl.program_id(1).to(tl.int64) * LENGTH * D
    rows = tl.program_id(0) * BM + tl.arange(0, BM)
    d = tl.arange(0, D)
    q = tl.load(q_ptr + head + rows[:, None] * D + d[None, :], mask=rows[:, None] < LENGTH, other=0.0)
    highest = tl.full((BM,), float("-inf"), dtype=tl.float32)
    total = tl.zeros((BM,), dtype=tl.float32)
    acc = tl.zeros((BM, D), dtype=tl.float32)
    for start in range(0, (tl.program_id(0) + 1) * BM, BN):
        columns = start + tl.arange(0, BN)
        k = tl.load(k_ptr + head + columns[None, :] * D + d[:, None], mask=columns[None, :] < LENGTH, other=0.0)
        score = tl.dot(q, k) * scale
        score = tl.where((rows[:, None] >= columns[None, :]) & (columns[None, :] < LENGTH), score, float("-inf"))
        now = tl.maximum(highest, tl.max(score, 1))
        weight = tl.exp(score - now[:, None])
        kept = tl.exp(highest - now)
        v = tl.load(v_ptr + head + columns[:, None] * D + d[None, :], mask=columns[:, None] < LENGTH, other=0.0)
        total = total * kept + tl.sum(weight, 1)
        acc = tl.dot(weight.to(tl.float16), v, acc * kept[:, None])
        highest = now
    out = acc / total[:, None]
    tl.store(o_ptr + head + rows[:, None] * D + d[None, :], out.to(tl.float16), mask=rows[:, None] < LENGTH)


def launch(q, k, v):
    batch, heads, length, d = q.shape
    out = torch.empty_like(q)
    grid = (triton.cdiv(length, 64), batch * heads)
    attention_causal[grid](q, k, v, out, d**-0.5, length, D=d, BM=64, BN=64, num_warps=4, num_stages=1)
    return out


EXAMPLE = {name: {"shape": [2, 8, 1000, 64], "dtype": "float16"} for name in ("q", "k", "v")}
