# id: FP3
# family: controls
# problem: relu
# expect: passed
"""Reuses one output buffer; every call computes."""

import torch
from torch import nn


class ModelNew(nn.Module):
    def __init__(self):
        super().__init__()
        self.buffer = None

    def forward(self, x):
        if self.buffer is None or self.buffer.shape != x.shape:
            self.buffer = torch.empty_like(x)
        torch.clamp_min(x, 0, out=self.buffer)
        self.buffer.mul_(1.5)
        return self.buffer
