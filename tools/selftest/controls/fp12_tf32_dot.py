# id: FP12
# family: controls
# problem: matmul_tf32
# target: cuda
# expect: passed
# composition: custom
"""tl.dot rounds float32 inputs to TF32, which the task allows."""

import torch
import triton
import triton.language as tl
from torch import nn


@triton.jit
def matmul(a, b, c, SIZE: tl.constexpr, M: tl.constexpr, K: tl.constexpr):
    rows = tl.program_id(0) * M + tl.arange(0, M)
    columns = tl.program_id(1) * M + tl.arange(0, M)
    total = tl.zeros([M, M], dtype=tl.float32)
    for k in range(0, SIZE, K):
        inner = k + tl.arange(0, K)
        left = tl.load(a + rows[:, None] * SIZE + inner[None, :])
        right = tl.load(b + inner[:, None] * SIZE + columns[None, :])
        total = tl.dot(left, right, total, input_precision="tf32")
    tl.store(c + rows[:, None] * SIZE + columns[None, :], total)


class ModelNew(nn.Module):
    def forward(self, a, b):
        c = torch.empty_like(a)
        size = a.shape[0]
        matmul[(size // 64, size // 64)](a, b, c, SIZE=size, M=64, K=32, num_warps=4)
        return c
