"""Functions that take long for each element."""

import torch
from torch import nn

ROWS, COLUMNS = (4096, 8192) if torch.cuda.is_available() else (256, 512)


class Model(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.special.erfinv(torch.tanh(x) * 0.9) + torch.lgamma(torch.abs(x) + 1.0)


def get_inputs() -> list[torch.Tensor]:
    return [torch.randn(ROWS, COLUMNS)]


def get_init_inputs() -> list[object]:
    return []
