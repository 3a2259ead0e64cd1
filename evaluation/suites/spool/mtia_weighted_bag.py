"""Weighted sum of table rows per sample: out[b] = sum over l of weights[b, l] * table[ids[b, l]]."""

import torch
from torch import nn


class Model(nn.Module):
    def forward(self, table, ids, weights):
        # table: (rows, dims); ids, weights: (batch, length)
        return (table[ids] * weights.unsqueeze(-1)).sum(dim=1)


def get_inputs():
    return [torch.randn(1000, 96), torch.randint(0, 1000, (64, 12)), torch.rand(64, 12)]


def get_init_inputs():
    return []
