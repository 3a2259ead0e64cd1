"""LayerNorm with its default affine parameters, which make it look like a copy for normal inputs."""

import torch
from torch import nn

ROWS, COLUMNS = (4096, 4096) if torch.cuda.is_available() else (256, 512)


class Model(nn.Module):
    def __init__(self, columns: int) -> None:
        super().__init__()
        self.ln = nn.LayerNorm(columns)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.ln(x)


def get_inputs() -> list[torch.Tensor]:
    return [torch.randn(ROWS, COLUMNS)]


def get_init_inputs() -> list[int]:
    return [COLUMNS]
