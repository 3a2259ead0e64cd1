# id: FP9
# family: controls
# problem: embedding
# expect: passed
"""Integer inputs stay integers and only part of the table is read."""

import torch
from torch import nn


class ModelNew(nn.Module):
    def forward(self, index, table):
        return torch.nn.functional.embedding(index, table) * 2.0
