"""Additive attention scores before the last projection: tanh(query[i] + key[j]) times a per-key weight, for every pair."""

import torch
from torch import nn


class Model(nn.Module):
    def forward(self, query, key, weight):
        # query: (batch, m, dims); key: (batch, n, dims); weight: (batch, n) -> (batch, m, n, dims)
        return torch.tanh(query[:, :, None, :] + key[:, None, :, :]) * weight[:, None, :, None]


def get_inputs():
    return [torch.randn(2, 64, 64), torch.randn(2, 128, 64), torch.rand(2, 128)]


def get_init_inputs():
    return []
