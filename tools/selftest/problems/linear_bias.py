"""A linear layer and a scale that may be skipped unnoticed while it is 1."""

import torch
from torch import nn

BATCH, WIDTH = (4096, 1024) if torch.cuda.is_available() else (64, 256)


class Model(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width)
        self.scale = nn.Parameter(torch.ones(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x) * self.scale


def get_inputs() -> list[torch.Tensor]:
    return [torch.randn(BATCH, WIDTH)]


def get_init_inputs() -> list[int]:
    return [WIDTH]
