"""A pointwise operator on more elements than 32 bits can count, where a GPU has room for them."""

import torch
from torch import nn

_ROOM = torch.cuda.is_available() and torch.cuda.get_device_properties(0).total_memory > 60 << 30
COUNT = (1 << 31) + 4096 if _ROOM else 1 << 16


class Model(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + 3


def get_inputs() -> list[torch.Tensor]:
    return [torch.randint(0, 100, (COUNT,), dtype=torch.uint8)]


def get_init_inputs() -> list[object]:
    return []
