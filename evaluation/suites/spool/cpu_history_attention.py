"""Target attention over a user's history: a two-layer network scores every past item against the candidate item, the scores weigh the history."""

import torch
from torch import nn


class Model(nn.Module):
    def __init__(self, width, hidden):
        super().__init__()
        self.first = nn.Linear(4 * width, hidden)
        self.slope = nn.Parameter(torch.full((1,), 0.25))
        self.second = nn.Linear(hidden, 1)

    def forward(self, query, history, lengths):
        # query: (batch, width); history: (batch, items, width); lengths: (batch,) int64 -> (batch, width)
        items = history.shape[1]
        asked = query[:, None, :].expand(-1, items, -1)
        pairs = torch.cat([asked, history, asked - history, asked * history], dim=-1)
        hidden = self.first(pairs)
        hidden = torch.where(hidden > 0, hidden, self.slope * hidden)
        scores = self.second(hidden).squeeze(-1)
        inside = torch.arange(items, device=history.device)[None, :] < lengths[:, None]
        return torch.bmm((scores * inside)[:, None, :], history).squeeze(1)


def get_inputs():
    return [torch.randn(128, 32), torch.randn(128, 100, 32), torch.randint(0, 101, (128,))]


def get_init_inputs():
    return [32, 40]
