"""Integer indices into a table: they must stay integers, and only a part of the table is read."""

import torch
from torch import nn


class Model(nn.Module):
    def forward(self, index: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
        return table[index] * 2.0


def get_inputs() -> list[torch.Tensor]:
    return [torch.randint(0, 50_000, (4096,)), torch.randn(50_000, 64)]


def get_init_inputs() -> list[object]:
    return []
