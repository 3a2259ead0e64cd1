"""A matrix product in float16, for a chip that is known from documents only."""

import torch
from torch import nn


class Model(nn.Module):
    def forward(self, a, b):
        return a @ b


def get_inputs():
    return [torch.randn(2560, 1024, dtype=torch.float16), torch.randn(1024, 2048, dtype=torch.float16)]


def get_init_inputs():
    return []
