"""A scale that is one and a mask that hides nothing in every draw of the problem's own."""

import torch
from torch import nn

SHAPE = (4096, 4096) if torch.cuda.is_available() else (256, 1000)


class Model(nn.Module):
    def forward(self, x: torch.Tensor, scale: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return (torch.tanh(x) * scale).masked_fill(~mask, -5.0)


def get_inputs() -> list[torch.Tensor]:
    return [torch.randn(*SHAPE), torch.tensor(1.0), torch.ones(*SHAPE, dtype=torch.bool)]


def get_init_inputs() -> list[object]:
    return []
