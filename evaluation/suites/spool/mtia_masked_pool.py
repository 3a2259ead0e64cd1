"""Mean over the first `lengths[b]` time steps of each sequence; zero for an empty one."""

import torch
from torch import nn


class Model(nn.Module):
    def forward(self, x, lengths):
        # x: (batch, time, channels); lengths: (batch,)
        steps = torch.arange(x.shape[1], device=x.device)
        mask = (steps[None, :] < lengths[:, None]).to(x.dtype).unsqueeze(-1)
        return (x * mask).sum(dim=1) / lengths.clamp(min=1).to(x.dtype).unsqueeze(-1)


def get_inputs():
    return [torch.randn(48, 40, 72), torch.randint(0, 41, (48,))]


def get_init_inputs():
    return []
