"""Rotary position embedding with rotated halves."""

import torch
from torch import nn


class Model(nn.Module):
    def forward(self, q, cos, sin):
        # q: (batch, seq, width); cos, sin: (seq, width)
        low, high = q.chunk(2, dim=-1)
        return q * cos + torch.cat((-high, low), dim=-1) * sin


def get_inputs():
    return [torch.randn(4, 48, 72), torch.rand(48, 72), torch.rand(48, 72)]


def get_init_inputs():
    return []
