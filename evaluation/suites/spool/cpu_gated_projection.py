"""Gated projection: the product with one matrix times the GELU of the product with another."""

import torch
import torch.nn.functional as F
from torch import nn


class Model(nn.Module):
    def forward(self, x, up, gate):
        # x: (rows, inner); up, gate: (inner, columns) -> (rows, columns)
        return (x @ up) * F.gelu(x @ gate)


def get_inputs():
    return [torch.randn(384, 512), torch.randn(512, 768) * 0.05, torch.randn(512, 768) * 0.05]


def get_init_inputs():
    return []
