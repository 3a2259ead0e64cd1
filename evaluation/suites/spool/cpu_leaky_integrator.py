"""First-order recurrence along time with a decay per channel: y[t] = decay * y[t - 1] + (1 - decay) * x[t]."""

import torch
from torch import nn


class Model(nn.Module):
    def forward(self, x, decay):
        # x: (batch, time, channels); decay: (channels,)
        y = torch.zeros_like(x[:, 0])
        outputs = []
        for t in range(x.shape[1]):
            y = decay * y + (1 - decay) * x[:, t]
            outputs.append(y)
        return torch.stack(outputs, dim=1)


def get_inputs():
    return [torch.randn(8, 96, 256), torch.rand(256)]


def get_init_inputs():
    return []
