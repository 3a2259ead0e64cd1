"""SwiGLU: the gate of a modern feed-forward block, silu(gate) * up.

Pattern: the two halves of one fused projection are combined elementwise. It moves 12 bytes per output element and computes one sigmoid, so it should run at
the speed of memory; eager PyTorch writes silu(gate) to memory and reads it back.
"""

import torch
from torch import nn

ROWS = 2048
HIDDEN = 2048


class Model(nn.Module):
    """silu of the first half of the features times the second half."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return shape (rows, hidden) for x of shape (rows, 2 * hidden)."""
        gate, up = x.chunk(2, dim=-1)
        return nn.functional.silu(gate) * up


def get_inputs() -> list[torch.Tensor]:
    """The output of a projection to twice the hidden size, float32."""
    return [torch.randn(ROWS, 2 * HIDDEN) * 2.0]


def get_init_inputs() -> list[int]:
    """Arguments of `Model`: none."""
    return []
