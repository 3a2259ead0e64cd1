# id: FP10
# family: controls
# problem: relu
# expect: passed
"""Zero wherever the input is negative, as it should be."""

import torch
from torch import nn


class ModelNew(nn.Module):
    def forward(self, x):
        return torch.where(x > 0, x * 1.5, torch.zeros_like(x))
