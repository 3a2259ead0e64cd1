"""Inputs and weights are changed where shortcuts hide, and left alone where values carry meaning."""

from __future__ import annotations

import torch
from torch import nn

from tools.check.operators import takes_integers_as_numbers
from tools.check.variation import perturb_weights, poke_rule, vary


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(1)


def test_labels_and_indices_stay_as_they_are() -> None:
    labels, index = torch.randint(0, 2, (500,)).float() * 2 - 1, torch.randint(0, 9, (50,))
    varied = vary([labels, index], "outliers", generator())
    assert torch.equal(varied[0], labels) and torch.equal(varied[1], index)


def test_sorted_boundaries_stay_sorted() -> None:
    boundaries = torch.linspace(-1, 1, 200)
    changed = vary([boundaries], "outliers", generator())[0]
    assert bool((changed[1:] >= changed[:-1]).all()) and not torch.equal(changed, boundaries)


def test_outliers_move_a_mean_over_a_tenth_of_the_elements() -> None:
    x = torch.rand(100_000)
    changed = vary([x], "outliers", generator())[0]
    assert abs(float(changed.mean() - changed[::10].mean())) > 1e-5


def test_outliers_show_in_no_sample_of_the_others() -> None:
    x = torch.rand(100_000)
    for kind, least in (("outliers", -150.0), ("high_outliers", 0.0)):
        changed = vary([x], kind, generator())[0]
        assert 0 < int((changed != x).sum()) <= 8
        assert float(changed.max()) > 150 and (float(changed.min()) < least if least else float(changed.min()) >= 0)


def test_integers_take_their_whole_range_where_they_are_numbers() -> None:
    few, many = torch.randint(0, 8, (4096,), dtype=torch.uint8), torch.randint(0, 100, (4096,), dtype=torch.uint8)
    assert all(torch.equal(a, b) for a, b in zip(vary([few, many], "structured", generator()), [few, many], strict=True))
    changed = vary([few, many], "structured", generator(), integers_are_numbers=True)
    assert torch.equal(changed[0], few) and int(changed[1].max()) > 200
    assert takes_integers_as_numbers({"aten.add.Tensor": 1, "aten.sum.default": 1, "aten._to_copy.default": 1})
    assert not any(
        takes_integers_as_numbers({name: 1, "aten.mul.Tensor": 1})
        for name in ("aten.index.Tensor", "aten.arange.default", "aten.lt.Tensor")
    )


def test_default_affine_parameters_and_statistics_move_and_variances_stay_positive() -> None:
    model = nn.BatchNorm1d(64)
    perturb_weights(model, generator())
    model.requires_grad_(False)
    assert float((model.weight - 1).abs().max()) > 0.1 and float(model.bias.abs().max()) > 0.1
    assert float(model.running_mean.abs().max()) > 0.1 and float(model.running_var.min()) > 0
    assert int(model.num_batches_tracked) == 0


def test_pokes_stay_within_what_occurs() -> None:
    rule = poke_rule(torch.rand(1000))
    assert rule is not None and 0 <= rule["low"] < rule["high"] <= 1
    assert poke_rule(torch.randint(0, 2, (100,)).float()) == {"choices": [0.0, 1.0]}
    assert poke_rule(torch.arange(100)) is None
    assert poke_rule(torch.rand(100) > 0.5) is None


def test_inputs_of_one_value_vary_and_lengths_stay_lengths() -> None:
    x, scale, bias = torch.randn(8, 40), torch.tensor(1.0), torch.zeros(40)
    mask, lengths, other = torch.ones(8, 40, dtype=torch.bool), torch.full((8,), 40), torch.full((5,), 7)
    _, scale2, bias2, mask2, lengths2, other2 = vary([x, scale, bias, mask, lengths, other], "structured", generator())
    assert float(scale2) != 1.0 and float(bias2.abs().max()) > 0
    assert 0 < int(mask2.sum()) < mask.numel()
    assert bool((lengths2 <= 40).all()) and int(lengths2.min()) >= 20 and not torch.equal(lengths2, lengths)
    assert torch.equal(other2, other)
    assert all(torch.equal(a, b) for a, b in zip(vary([scale, mask], "scaled", generator()), [scale, mask], strict=True))


def test_odd_rows_are_of_zeros_tiny_and_full_of_ties() -> None:
    rows = vary([torch.randn(64, 100)], "structured", generator())[0]
    assert int((rows == 0).all(1).sum()) == 1
    assert int((rows.abs().amax(1) < 0.1).sum()) == 2
    assert min(len(row.unique()) for row in rows if bool(row.any())) < 20
