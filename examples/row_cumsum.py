"""Running sums along rows, after a scale: the core of cumulative rewards, positions from lengths, and sampling from a distribution.

Pattern: a scan. Every output depends on all inputs before it, so a row cannot be split as in a reduction, but rows are independent.
"""

import torch
from torch import nn

ROWS = 1024
COLUMNS = 2048


class Model(nn.Module):
    """Cumulative sum of the scaled input along the last dimension."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return shape (rows, columns) for x of that shape."""
        return torch.cumsum(x * 0.5, dim=-1)


def get_inputs() -> list[torch.Tensor]:
    """Values around zero, float32, so that the sums stay small."""
    return [torch.randn(ROWS, COLUMNS)]


def get_init_inputs() -> list[int]:
    """Arguments of `Model`: none."""
    return []
