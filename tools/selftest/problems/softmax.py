"""Row softmax over many columns: outputs are tiny, so a fixed absolute tolerance would let zeros pass."""

import torch
from torch import nn

ROWS, COLUMNS = (1024, 16384) if torch.cuda.is_available() else (64, 16384)


class Model(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.softmax(x, dim=-1)


def get_inputs() -> list[torch.Tensor]:
    return [torch.rand(ROWS, COLUMNS)]


def get_init_inputs() -> list[object]:
    return []
