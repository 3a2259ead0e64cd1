"""A masked scale: the mask is rarely zero."""

import torch
from torch import nn

SHAPE = (4096, 4096) if torch.cuda.is_available() else (256, 1000)


class Model(nn.Module):
    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return x * 2.0 * mask


def get_inputs() -> list[torch.Tensor]:
    return [torch.randn(*SHAPE), (torch.rand(*SHAPE) > 0.001).float()]


def get_init_inputs() -> list[object]:
    return []
