"""Attention probabilities: scaled scores plus an additive mask, softmax over the keys.

Pattern: attention over user histories of different lengths. The mask is 0 where a key may be seen and -inf where it is padding or lies in the future; it is
shared by all heads of a sample. Eager PyTorch runs three passes over the scores (scale, add, softmax) and writes two temporaries.
"""

import torch
from torch import nn

BATCH = 2
HEADS = 8
LENGTH = 512
HEAD_DIM = 64


class Model(nn.Module):
    """softmax(scores / sqrt(head_dim) + mask) over the last dimension."""

    def __init__(self, head_dim: int) -> None:
        super().__init__()
        self.scale = head_dim**-0.5

    def forward(self, scores: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Return probabilities, shape (batch, heads, queries, keys); mask has shape (batch, 1, queries, keys)."""
        return torch.softmax(scores * self.scale + mask, dim=-1)


def get_inputs() -> list[torch.Tensor]:
    """Scores as dot products would give them, and a causal mask joined with the padding of each sample; every query sees at least one key."""
    scores = torch.randn(BATCH, HEADS, LENGTH, LENGTH) * HEAD_DIM**0.5
    lengths = torch.randint(LENGTH // 2, LENGTH + 1, (BATCH,))
    position = torch.arange(LENGTH)
    causal = position[None, :] <= position[:, None]
    visible = causal[None] & (position[None, None, :] < lengths[:, None, None])
    mask = torch.zeros(BATCH, 1, LENGTH, LENGTH).masked_fill_(~visible[:, None], float("-inf"))
    return [scores, mask]


def get_init_inputs() -> list[int]:
    """Arguments of `Model`."""
    return [HEAD_DIM]
