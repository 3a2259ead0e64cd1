"""A product of two arguments that the problem's own generator makes equal."""

import torch
from torch import nn

SIZE = 2048 if torch.cuda.is_available() else 256


class Model(nn.Module):
    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return a * torch.tanh(b)


def get_inputs() -> list[torch.Tensor]:
    x = torch.randn(SIZE, SIZE)
    return [x, x.clone()]


def get_init_inputs() -> list[object]:
    return []
