"""RMSNorm after a residual connection, the block entry of most language models: add, normalise by the root mean square, scale.

Pattern: a row-wise reduction between two elementwise steps. Eager PyTorch writes the sum, its square and the normalised rows to memory; one kernel reads each
row once and writes it once.
"""

import torch
from torch import nn

ROWS = 2048
HIDDEN = 1024


class Model(nn.Module):
    """RMSNorm of x + residual with a learned scale."""

    def __init__(self, hidden: int) -> None:
        """Draw the scale around one; `hidden` is the length of a row."""
        super().__init__()
        self.weight = nn.Parameter(1.0 + 0.1 * torch.randn(hidden))

    def forward(self, x: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
        """Return shape (rows, hidden) for two inputs of that shape."""
        total = x + residual
        return nn.functional.rms_norm(total, (total.shape[-1],), self.weight, 1e-6)


def get_inputs() -> list[torch.Tensor]:
    """Activations and the residual stream, float32."""
    return [torch.randn(ROWS, HIDDEN), torch.randn(ROWS, HIDDEN) * 3.0]


def get_init_inputs() -> list[int]:
    """Arguments of `Model`: the length of a row."""
    return [HIDDEN]
