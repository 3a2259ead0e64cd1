"""An operator that does some of its work twice: the second and third steps leave what the first made as it is."""

import torch
from torch import nn

ROWS, COLUMNS = (4096, 8192) if torch.cuda.is_available() else (256, 1024)


class Model(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        total = torch.logsumexp(x, dim=1, keepdim=True)
        for _ in range(2):
            total = torch.logsumexp(total.expand_as(x) - total.new_tensor(COLUMNS).log(), dim=1, keepdim=True)
        return total


def get_inputs() -> list[torch.Tensor]:
    return [torch.randn(ROWS, COLUMNS)]


def get_init_inputs() -> list[object]:
    return []
