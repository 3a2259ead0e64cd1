"""MergeBucketizedDense (MBDT): bucket index of each dense feature by its own sorted borders, shifted to one shared index space.

Pattern: preprocessing of dense features in a recommendation model (KernelEvolve, arXiv 2512.23236, section 5.4.2): feature f has its own borders, and its
buckets start where those of feature f - 1 end, so that one embedding table serves all features. With borders [0.3, 0.6] and [0.4, 0.7], the values
[0.1, 0.4, 0.8] and [0.2, 0.5, 0.9] become [0, 1, 2] and [3, 4, 5]. Features with fewer borders are padded with inf, which no finite value reaches.
"""

import torch
from torch import nn

FEATURES = 16
BATCH = 16_384
MOST_BORDERS = 10


class Model(nn.Module):
    """Bucket of every value plus the first bucket of its feature."""

    def forward(self, x: torch.Tensor, borders: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
        """Return int64 of shape (features, batch) for x (features, batch), borders (features, most_borders) sorted by row, offsets (features,)."""
        return torch.searchsorted(borders, x) + offsets.unsqueeze(1)


def get_inputs() -> list[torch.Tensor]:
    """Dense values, float32; 3 to 10 borders a feature, padded with inf; the running sum of bucket counts, int64."""
    x = torch.randn(FEATURES, BATCH)
    counts = torch.randint(3, MOST_BORDERS + 1, (FEATURES, 1))
    borders = torch.sort(torch.randn(FEATURES, MOST_BORDERS), dim=1).values
    borders = borders.masked_fill(torch.arange(MOST_BORDERS) >= counts, float("inf"))
    offsets = torch.cumsum(counts.flatten() + 1, dim=0) - (counts.flatten() + 1)
    return [x, borders, offsets]


def get_init_inputs() -> list[int]:
    """Arguments of `Model`: none."""
    return []
