"""Cross-entropy of token logits against class indices: the loss at the end of a language model.

Pattern: one row of logits per token, thousands of classes, a mean over the tokens. Only one number leaves; the cost is reading the logits and one exp each.
Eager PyTorch materialises log-softmax, a tensor as large as the logits.
"""

import torch
from torch import nn

TOKENS = 512
CLASSES = 16_384


class Model(nn.Module):
    """Mean negative log-likelihood of the targets."""

    def forward(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return a scalar; logits have shape (tokens, classes), targets (tokens,)."""
        return nn.functional.cross_entropy(logits, targets)


def get_inputs() -> list[torch.Tensor]:
    """Logits with a spread that differs from token to token, float32, and int64 targets."""
    logits = torch.randn(TOKENS, CLASSES) * (torch.rand(TOKENS, 1) * 3.0 + 0.5)
    return [logits, torch.randint(0, CLASSES, (TOKENS,))]


def get_init_inputs() -> list[int]:
    """Arguments of `Model`: none."""
    return []
