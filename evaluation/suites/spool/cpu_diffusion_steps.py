"""Four explicit steps of heat diffusion on a grid: each cell moves towards the mean of its four neighbours; the border repeats its own cells."""

import torch
import torch.nn.functional as F
from torch import nn


class Model(nn.Module):
    def __init__(self, rate):
        super().__init__()
        self.rate = rate

    def forward(self, x):
        # x: (planes, height, width)
        for _ in range(4):
            p = F.pad(x.unsqueeze(1), (1, 1, 1, 1), mode="replicate").squeeze(1)
            around = p[:, :-2, 1:-1] + p[:, 2:, 1:-1] + p[:, 1:-1, :-2] + p[:, 1:-1, 2:]
            x = x + self.rate * (around * 0.25 - x)
        return x


def get_inputs():
    return [torch.randn(3, 256, 384)]


def get_init_inputs():
    return [0.6]
