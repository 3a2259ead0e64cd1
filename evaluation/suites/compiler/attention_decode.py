# mypy: ignore-errors
"""Attention of one query over a long cache: a slice of the keys per program, joined by a second kernel."""

import torch
import triton
import triton.language as tl


@triton.jit
def decode_slices(q_ptr, k_ptr, v_ptr, part_ptr, stat_ptr, scale, LENGTH, SLICE, D: tl.constexpr, BN: tl.constexpr):
    head, number, slices = tl.program_id(0), tl.program_id(1), tl.num_programs(1)
    d = tl.arange(0, D)
    q = tl.load(q_ptr + head * D + d).to(tl.float32)
    base = head.to(tl.int64) * LENGTH * D
    highest = tl.full((), float("-inf"), dtype=tl.float32)
    total = tl.zeros((), dtype=tl.float32)
    acc = tl.zeros((D,), dtype=tl.float32)
    for start in range(number * SLICE, min(LENGTH, (number + 1) * SLICE), BN):
        n = start + tl.arange(0, BN)
        here = (n < LENGTH)[:, None]
        k = tl.load(k_ptr + base + n[:, None] * D + d[None, :], mask=here, other=0.0).to(tl.float32)
        score = tl.where(n < LENGTH, tl.sum(k * q[None, :], 1) * scale, float("-inf"))
        now = tl.maximum(highest, tl.max(score, 0))
        weight, kept = tl.exp(score - now), tl.exp(highest - now)
        v = tl.load(v_ptr + base + n[:, None] * D + d[None, :], mask=here, other=0.0).to(tl.float32)
        acc = acc * kept + tl.sum(weight[:, None] * v, 0)
        total = total * kept + tl.sum(weight, 0)
        highest = now
    slot = head * slices + number
    tl.store(part_ptr + slot * D + d, acc)
    tl.store(stat_ptr + slot * 2, highest)
    tl.store(stat_ptr + slot * 2 + 1, total)


@triton.jit
def decode_join(part_ptr, stat_ptr, out_ptr, D: tl.constexpr, SLICES: tl.constexpr):
    head = tl.program_id(0)
    d, s = tl.arange(0, D), tl.arange(0, SLICES)
    highest = tl.load(stat_ptr + (head * SLICES + s) * 2)
    total = tl.load(stat_ptr + (head * SLICES + s) * 2 + 1)
    factor = tl.exp(highest - tl.max(highest, 0))
    parts = tl.load(part_ptr + (head * SLICES + s)[:, None] * D + d[None, :])
    out = tl.sum(parts * factor[:, None], 0) / tl.sum(total * factor, 0)
    tl.store(out_ptr + head * D + d, out.to(out_ptr.dtype.element_ty))


def launch(q, k, v):
    heads, length, d = k.shape
    part = torch.empty((heads, 16, d), device=q.device, dtype=torch.float32)
    stat = torch.empty((heads, 16, 2), device=q.device, dtype=torch.float32)
    out = torch.empty_like(q)
    decode_slices[(heads, 16)](q, k, v, part, stat, d**-0.5, length, triton.cdiv(length, 16), D=d, BN=32, num_warps=4)
    decode_join[(heads,)](part, stat, out, D=d, SLICES=16, num_warps=2)
    return out


EXAMPLE = {"q": {"shape": [32, 128], "dtype": "float16"}} | {name: {"shape": [32, 8000, 128], "dtype": "float16"} for name in ("k", "v")}
