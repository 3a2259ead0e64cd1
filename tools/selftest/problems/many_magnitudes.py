"""Outputs over many magnitudes: a tolerance that follows the largest tells nothing of the smallest."""

import torch
from torch import nn

ROWS = 4096 if torch.cuda.is_available() else 256


class Model(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.exp(x * 6.0)


def get_inputs() -> list[torch.Tensor]:
    return [torch.randn(ROWS, 1024)]


def get_init_inputs() -> list[object]:
    return []
