# id: FP18
# family: controls
# problem: random_scale
# expect: passed
"""Uses the number that comes with each draw, and one output buffer for all calls."""

import torch
from torch import nn


class ModelNew(nn.Module):
    def __init__(self):
        super().__init__()
        self.buffer = None

    def forward(self, x, scale):
        if self.buffer is None or self.buffer.shape != x.shape:
            self.buffer = torch.empty_like(x)
        torch.tanh(x, out=self.buffer)
        return self.buffer.mul_(scale)
