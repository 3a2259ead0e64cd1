"""Row-wise LayerNorm followed by an exact GELU: the head of a feed-forward block.

Pattern: every transformer and every dense tower of a recommendation model normalises its activations over the feature dimension and passes them
through a pointwise non-linearity. Eager PyTorch writes the normalised tensor to memory and reads it back for the GELU.
"""

import torch
from torch import nn

ROWS = 4096
FEATURES = 1024


class Model(nn.Module):
    """LayerNorm over the last dimension with weight and bias, then GELU (erf form)."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(features)
        with torch.no_grad():
            self.norm.weight.uniform_(0.5, 1.5)
            self.norm.bias.uniform_(-0.5, 0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return gelu(layer_norm(x)), shape (rows, features)."""
        return nn.functional.gelu(self.norm(x))


def get_inputs() -> list[torch.Tensor]:
    """Activations of shape (rows, features), float32, with a mean and a scale that differ from row to row."""
    scale = torch.rand(ROWS, 1) * 3.0 + 0.1
    shift = torch.randn(ROWS, 1)
    return [torch.randn(ROWS, FEATURES) * scale + shift]


def get_init_inputs() -> list[int]:
    """Arguments of `Model`."""
    return [FEATURES]
