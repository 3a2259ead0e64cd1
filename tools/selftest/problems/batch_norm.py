"""BatchNorm in training mode: the statistics are those of the batch, not the running ones."""

import torch
from torch import nn

ROWS, COLUMNS = (32768, 512) if torch.cuda.is_available() else (1024, 96)


class Model(nn.Module):
    def __init__(self, columns: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm1d(columns)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.bn(x)


def get_inputs() -> list[torch.Tensor]:
    return [torch.randn(ROWS, COLUMNS)]


def get_init_inputs() -> list[int]:
    return [COLUMNS]
