"""A linear layer whose weights the task declares constant, so that packing them once is allowed."""

import torch
from torch import nn

WEIGHTS_CONSTANT = True
BATCH, WIDTH = (4096, 1024) if torch.cuda.is_available() else (64, 256)


class Model(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x)


def get_inputs() -> list[torch.Tensor]:
    return [torch.randn(BATCH, WIDTH)]


def get_init_inputs() -> list[int]:
    return [WIDTH]
