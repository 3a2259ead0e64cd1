"""Rows divided by their length, which must not be zero."""

import torch
from torch import nn

SHAPE = (4096, 4096) if torch.cuda.is_available() else (256, 1000)


class Model(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x / x.norm(dim=-1, keepdim=True).clamp(min=1e-6)


def get_inputs() -> list[torch.Tensor]:
    return [torch.randn(*SHAPE)]


def get_init_inputs() -> list[object]:
    return []
