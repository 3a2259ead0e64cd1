"""Low-rank cross network: x0 times a low-rank projection of the current features plus a bias, added to the current features, three times."""

import torch
from torch import nn


class Model(nn.Module):
    def __init__(self, width, rank, layers):
        super().__init__()
        self.down = nn.ParameterList([nn.Parameter(torch.randn(width, rank) * 0.06) for _ in range(layers)])
        self.up = nn.ParameterList([nn.Parameter(torch.randn(rank, width) * 0.15) for _ in range(layers)])
        self.bias = nn.ParameterList([nn.Parameter(torch.zeros(width)) for _ in range(layers)])

    def forward(self, x0):
        # (rows, width) -> (rows, width)
        x = x0
        for down, up, bias in zip(self.down, self.up, self.bias):
            x = x0 * (x @ down @ up + bias) + x
        return x


def get_inputs():
    return [torch.randn(1024, 192)]


def get_init_inputs():
    return [192, 24, 3]
