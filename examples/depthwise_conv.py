"""Depthwise 3 x 3 convolution: each channel is filtered on its own.

Pattern: the spatial half of a separable convolution (mobile vision models). Nine multiply-adds per output element leave it bound by memory, so one pass that
reads each input row once from cache is enough.
"""

import torch
from torch import nn

BATCH = 8
CHANNELS = 32
HEIGHT = 128
WIDTH = 128


class Model(nn.Module):
    """3 x 3 depthwise convolution, stride 1, padding 1, no bias."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, kernel_size=3, padding=1, groups=channels, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return shape (batch, channels, height, width)."""
        return self.conv(x)


def get_inputs() -> list[torch.Tensor]:
    """Feature maps, float32."""
    return [torch.randn(BATCH, CHANNELS, HEIGHT, WIDTH)]


def get_init_inputs() -> list[int]:
    """Arguments of `Model`."""
    return [CHANNELS]
