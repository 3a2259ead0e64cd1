"""MergeBucketizedDense (MBDT): bucket index of each dense feature by its own sorted borders, shifted to one shared index space.

Pattern: preprocessing of dense features in a recommendation model (KernelEvolve, arXiv 2512.23236, section 5.4.2): feature f has its own borders, its bucket
indices start where those of feature f - 1 end, so that one embedding table serves all features. With borders [0.3, 0.6] and [0.4, 0.7], the values
[0.1, 0.4, 0.8] and [0.2, 0.5, 0.9] become [0, 1, 2] and [3, 4, 5]. The reference bucketizes feature by feature and stacks the results.
"""

import torch
from torch import nn

FEATURES = 16
BATCH = 65_536
BORDERS = 7


class Model(nn.Module):
    """Bucket of every value plus the offset of its feature."""

    def forward(self, x: torch.Tensor, borders: torch.Tensor) -> torch.Tensor:
        """Return int64 of shape (features, batch) for x of shape (features, batch) and borders of shape (features, num_borders), sorted by row."""
        buckets = torch.searchsorted(borders, x)
        offsets = torch.arange(x.shape[0], device=x.device) * (borders.shape[1] + 1)
        return buckets + offsets.unsqueeze(1)


def get_inputs() -> list[torch.Tensor]:
    """Dense values and borders inside their range, float32."""
    x = torch.randn(FEATURES, BATCH)
    borders = torch.sort(torch.randn(FEATURES, BORDERS), dim=1).values
    return [x, borders]


def get_init_inputs() -> list[int]:
    """Arguments of `Model`: none."""
    return []
