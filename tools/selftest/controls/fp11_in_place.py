# id: FP11
# family: controls
# problem: in_place
# expect: passed
"""Updates its argument, as the task does."""

from torch import nn


class ModelNew(nn.Module):
    def forward(self, x, y):
        return x.add_(y, alpha=0.5)
