"""Values written into tensors of timed calls."""

from __future__ import annotations

import torch

from tools.worker.timed import fill


def test_an_expanded_tensor_takes_values_and_others_stay_plain_copies() -> None:
    row = torch.zeros(4)
    fill(row.expand(3, 4), torch.arange(4.0).expand(3, 4))
    assert row.tolist() == [0.0, 1.0, 2.0, 3.0]
    plain = torch.zeros(3, 4).t()
    fill(plain, torch.ones(4, 3))
    assert bool((plain == 1).all())
