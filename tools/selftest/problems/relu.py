"""A pointwise operator whose output is often zero."""

import torch
from torch import nn

SHAPE = (4096, 4096) if torch.cuda.is_available() else (512, 1000)


class Model(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x) * 1.5


def get_inputs() -> list[torch.Tensor]:
    return [torch.randn(*SHAPE)]


def get_init_inputs() -> list[object]:
    return []
