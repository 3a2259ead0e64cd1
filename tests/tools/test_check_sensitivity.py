"""Parameters and inputs that a reference does not heed are found, and everything is put back."""

from __future__ import annotations

import torch
from torch import nn

from tools.check.sensitivity import without_effect


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(8))
        self.shift = nn.Parameter(torch.zeros(8))
        self.unused = nn.Parameter(torch.randn(3))
        self.drowned = nn.Parameter(torch.full((8,), 1e-12))
        self.register_buffer("count", torch.zeros(1, dtype=torch.long))

    def forward(self, x: torch.Tensor, mask: torch.Tensor, ignored: torch.Tensor) -> torch.Tensor:
        return x * self.scale * mask + self.shift + self.drowned


def test_what_has_no_effect_is_named_and_all_is_as_it_was() -> None:
    torch.manual_seed(0)
    net, inputs = Net(), [torch.randn(4, 8), torch.ones(4, 8), torch.randn(2)]
    leaves = {**dict(net.state_dict()), **{f"input {number}": item for number, item in enumerate(inputs)}}
    before = {name: item.clone() for name, item in leaves.items()}
    with torch.no_grad():
        silent, tried = without_effect(lambda: net(*inputs), leaves, seconds=60.0)
    assert silent == ["unused", "drowned", "input 2"]
    assert "scale" not in silent and "shift" not in silent and "input 1" not in silent  # ones and zeros matter, too
    assert tried == 7 and all(torch.equal(before[name], item) for name, item in leaves.items())


def test_a_change_that_makes_the_reference_fail_matters_and_is_undone() -> None:
    x = torch.ones(3)

    def call() -> torch.Tensor:
        if not torch.equal(x, torch.ones(3)):
            raise ValueError("not ones")
        return x * 2

    assert without_effect(call, {"x": x}, seconds=60.0) == ([], 1) and torch.equal(x, torch.ones(3))


def test_a_large_net_is_looked_at_for_a_limited_time() -> None:
    now = iter(range(100))
    leaves = {str(number): torch.randn(2) for number in range(50)}
    silent, tried = without_effect(lambda: torch.ones(1), leaves, seconds=5.0, clock=lambda: float(next(now)))
    assert tried == 5 and len(silent) == 5
