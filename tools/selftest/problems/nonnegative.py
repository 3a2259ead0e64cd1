"""A rectifier whose own inputs happen to be non-negative: a copy looks right until other values come."""

import torch
from torch import nn

SHAPE = (4096, 4096) if torch.cuda.is_available() else (256, 1000)


class Model(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x) * 2.0


def get_inputs() -> list[torch.Tensor]:
    return [torch.rand(*SHAPE)]


def get_init_inputs() -> list[object]:
    return []
