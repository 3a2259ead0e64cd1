"""A row sum over two shapes, the second of them odd."""

import torch
from torch import nn

WORKLOADS = [{"rows": 64, "columns": 512}, {"rows": 61, "columns": 1013}]


class Model(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cumsum(x, dim=1)


def get_inputs(rows: int = 64, columns: int = 512) -> list[torch.Tensor]:
    return [torch.randn(rows, columns)]


def get_init_inputs() -> list[object]:
    return []
