"""Second-order factorisation machine: half the square of the sum over fields minus the sum of the squares, summed over the embedding, through a sigmoid."""

import torch
from torch import nn


class Model(nn.Module):
    def forward(self, embedded, linear, bias):
        # embedded: (rows, fields, width); linear: (rows, fields); bias: (1,) -> (rows,)
        square_of_sum = embedded.sum(dim=1).pow(2)
        sum_of_squares = embedded.pow(2).sum(dim=1)
        second = 0.5 * (square_of_sum - sum_of_squares).sum(dim=-1)
        return torch.sigmoid(bias + linear.sum(dim=1) + second)


def get_inputs():
    return [torch.randn(160, 26, 16) * 0.3, torch.randn(160, 26) * 0.3, torch.zeros(1)]


def get_init_inputs():
    return []
