"""Swish layer norm: the input times the sigmoid of its layer normalisation, rows of features of a ranking model."""

import torch
from torch import nn


class Model(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x):
        # (rows, width) -> (rows, width)
        mean = x.mean(dim=-1, keepdim=True)
        variance = (x - mean).pow(2).mean(dim=-1, keepdim=True)
        normal = (x - mean) * torch.rsqrt(variance + 1e-5) * self.weight + self.bias
        return x * torch.sigmoid(normal)


def get_inputs():
    return [torch.randn(192, 200)]


def get_init_inputs():
    return [200]
