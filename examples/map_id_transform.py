"""MapIdTransform: translate raw ids to rows of an embedding table through a sorted list of known ids.

Pattern: preprocessing of sparse features before an embedding lookup in a recommendation model (KernelEvolve, arXiv 2512.23236, section 5.4.1 and table 7):
an id that is in the sorted mapping becomes its 1-indexed position, any other id becomes 0. For ids [100, 300, 500, 200, 999] and the mapping
[100, 200, 300, 400, 500] the answer is [1, 3, 5, 2, 0]. The reference is written as that section describes it: clamp(bucketize), gather, where.
"""

import torch
from torch import nn

UNIQUE_IDS = 10_000
BATCH = 50_000


class Model(nn.Module):
    """1-indexed position of each id in the mapping, 0 where it is unknown."""

    def forward(self, ids: torch.Tensor, mapping: torch.Tensor) -> torch.Tensor:
        """Return positions, int64, shape of `ids`; `mapping` is sorted and has at least one entry."""
        position = torch.clamp(torch.bucketize(ids, mapping), max=mapping.shape[0] - 1)
        known = torch.gather(mapping, 0, position) == ids
        return torch.where(known, position + 1, 0)


def get_inputs() -> list[torch.Tensor]:
    """Ids of which about 80 % are known, and a sorted mapping of distinct ids; both int64."""
    mapping = torch.cumsum(torch.randint(1, 1_000_000, (UNIQUE_IDS,)), dim=0)
    known = mapping[torch.randint(0, UNIQUE_IDS, (BATCH,))]
    unknown = torch.randint(0, int(mapping[-1]) + 1_000, (BATCH,))
    ids = torch.where(torch.rand(BATCH) < 0.8, known, unknown)
    return [ids, mapping]


def get_init_inputs() -> list[int]:
    """Arguments of `Model`: none."""
    return []
