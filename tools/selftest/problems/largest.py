"""The place of the first largest element of each row."""

import torch
from torch import nn

SHAPE = (4096, 4096) if torch.cuda.is_available() else (256, 1000)


class Model(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.argmax(x, dim=-1)


def get_inputs() -> list[torch.Tensor]:
    return [torch.randn(*SHAPE)]


def get_init_inputs() -> list[object]:
    return []
