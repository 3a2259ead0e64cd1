# id: FP8
# family: controls
# problem: matmul
# expect: passed
"""Views, copies and empty tensors around the operator are no offence."""

import torch
from torch import nn


class ModelNew(nn.Module):
    def forward(self, a, b):
        out = torch.empty(a.shape[0], b.shape[1], dtype=a.dtype, device=a.device)
        torch.mm(a.contiguous(), b.t().contiguous().t(), out=out)
        return out.view(a.shape[0], -1)
