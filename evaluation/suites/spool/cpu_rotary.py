"""Rotary position embedding, interleaved pairs, applied to queries."""

import torch
from torch import nn


class Model(nn.Module):
    def forward(self, q, cos, sin):
        # q: (batch, heads, seq, head_dim); cos, sin: (seq, head_dim / 2)
        even, odd = q[..., 0::2], q[..., 1::2]
        rotated = torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1)
        return rotated.flatten(-2)


def get_inputs():
    return [torch.randn(2, 8, 512, 64), torch.rand(512, 32), torch.rand(512, 32)]


def get_init_inputs():
    return []
