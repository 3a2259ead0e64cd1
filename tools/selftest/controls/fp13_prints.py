# id: FP13
# family: controls
# problem: relu
# expect: passed
"""Prints a lot, verdict-like words included; output is log, nothing else."""

import sys

import torch
from torch import nn


class ModelNew(nn.Module):
    def forward(self, x):
        print("PASS: 0 failed")
        sys.stderr.write("FAILED\n")
        return torch.relu(x) * 1.5
