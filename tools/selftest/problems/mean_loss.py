"""A mean over many elements: a sample of them comes close."""

import torch
from torch import nn

COUNT = 1 << 24 if torch.cuda.is_available() else 1 << 20


class Model(nn.Module):
    def forward(self, predictions: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return torch.mean((predictions - targets) ** 2)


def get_inputs() -> list[torch.Tensor]:
    return [torch.rand(COUNT), torch.rand(COUNT)]


def get_init_inputs() -> list[object]:
    return []
