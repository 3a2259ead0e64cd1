# id: FP16
# family: controls
# problem: layer_norm
# expect: passed
"""The baseline itself: about 1.00 times as fast, never flagged."""

from torch import nn


class ModelNew(nn.Module):
    def __init__(self, columns):
        super().__init__()
        self.ln = nn.LayerNorm(columns)

    def forward(self, x):
        return self.ln(x)
