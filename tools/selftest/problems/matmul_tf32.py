"""Matrix product of a task that declares TF32."""

import torch
from torch import nn

SIZE = 2048 if torch.cuda.is_available() else 320
torch.backends.cuda.matmul.allow_tf32 = True


class Model(nn.Module):
    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return a @ b


def get_inputs() -> list[torch.Tensor]:
    return [torch.rand(SIZE, SIZE), torch.rand(SIZE, SIZE)]


def get_init_inputs() -> list[object]:
    return []
