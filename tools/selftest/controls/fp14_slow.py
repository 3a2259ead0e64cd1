# id: FP14
# family: controls
# problem: relu
# expect: passed
"""Correct and slower than the baseline: reported, not failed."""

import torch
from torch import nn


class ModelNew(nn.Module):
    def forward(self, x):
        y = x
        for _ in range(8):
            y = torch.relu(y)
        return y * 1.5
