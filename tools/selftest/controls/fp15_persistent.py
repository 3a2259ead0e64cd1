# id: FP15
# family: controls
# problem: relu
# target: cuda
# expect: passed
# composition: custom
"""A persistent kernel: as many programs as multiprocessors, each of which walks over blocks."""

import torch
import triton
import triton.language as tl
from torch import nn


@triton.jit
def relu(x, y, COUNT: tl.constexpr, PROGRAMS: tl.constexpr, BLOCK: tl.constexpr):
    for block in range(tl.program_id(0), tl.cdiv(COUNT, BLOCK), PROGRAMS):
        index = block.to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
        value = tl.load(x + index, mask=index < COUNT)
        tl.store(y + index, tl.maximum(value, 0.0) * 1.5, mask=index < COUNT)


class ModelNew(nn.Module):
    def forward(self, x):
        y = torch.empty_like(x)
        programs = torch.cuda.get_device_properties(x.device).multi_processor_count * 4
        relu[(programs,)](x, y, COUNT=x.numel(), PROGRAMS=programs, BLOCK=4096)
        return y
