"""Change a problem's inputs and weights so that shortcuts that hold only for its defaults show up. Imports torch.

KernelBench files draw `torch.rand` or `torch.randn` and construct layers with their default parameters; a copy kernel then passes for LayerNorm and a
mean over a tenth of the elements for a mean. Every change keeps the order of sorted tensors (scales are positive) and leaves integers, masks and labels alone,
unless they hold one value only: then nothing else would show whether they are used. Where the reference only computes with integers, many-valued ones get values
from their type's whole range, too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from tools.worker.tensors import Tree, map_tensors, tensors_of

_SAMPLE = 4096
_FEW_VALUES = 16
_OUTLIERS = 6
_OUTLIER_FACTOR = 30.0
_EXTREMES = (-200.0, 200.0)
"""Two more elements become this many times the largest magnitude of the rest: an exponential that nobody protects overflows."""
_INTEGER_CHOICES = 64
_LEAST_ROWS = 8
_LEAST_COLUMNS = 4
_TINY = 2.0**-10
"""A row scaled by this has a variance around the usual epsilons (1e-5, 1e-6)."""
_FLIPPED_SHARE = 0.125
_WIDE_SHARE = 0.125
_MOST_CYCLES = 2.0
_LEAST_GAIN = 0.2
_FIELD_SHARE = 0.5
"""How far level and waves of a contrasted sample may go, each, as a share of half the values' range."""
_WIDEST = 1 << 14
"""Largest magnitude put into 32 and 64-bit integers: products of two do not wrap around."""


def vary(tree: Tree, kind: str, generator: torch.Generator, *, integers_are_numbers: bool = False) -> Tree:
    """Return the inputs with their floating tensors changed as `kind` says; each tensor gets its own random parameters.

    Args:
        tree: The inputs.
        kind: One of `tools.check.variation_kinds.KINDS`.
        generator: Source of the values.
        integers_are_numbers: The reference computes with integers and uses none as an index, a length or a label.
    """
    if kind == "as_given":
        return tree
    shapes = [tensor.shape for tensor in tensors_of(tree) if tensor.is_floating_point()]
    widens = integers_are_numbers and kind not in ("scaled", "shifted")
    return map_tensors(tree, lambda tensor: _vary_tensor(_widened(tensor, generator) if widens else tensor, kind, generator, shapes))


def _widened(tensor: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Return an integer tensor of many values with an eighth of them drawn anew, from the whole range of a short type; others as they are."""
    if tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool or is_monotone(tensor):
        return tensor
    if tensor.numel() <= _FEW_VALUES or distinct_values(tensor) is not None:
        return tensor
    info = torch.iinfo(tensor.dtype)
    low, high = (info.min, info.max) if info.bits <= 16 else (max(info.min, -_WIDEST), _WIDEST)
    places = torch.rand(tensor.shape, generator=generator) < _WIDE_SHARE
    values = torch.randint(low, high + 1, tensor.shape, generator=generator)
    return torch.where(places.to(tensor.device), values.to(tensor.device, tensor.dtype), tensor)


def _vary_tensor(tensor: torch.Tensor, kind: str, generator: torch.Generator, shapes: Sequence[torch.Size]) -> torch.Tensor:
    if kind != "scaled" and _is_constant(tensor):
        return _vary_constant(tensor, generator, shapes)
    if kind in ("high_outliers", "outliers") and tensor.is_floating_point() and not is_monotone(tensor):
        return tensor if tensor.numel() < 2 or distinct_values(tensor) is not None else _with_outliers(tensor, kind, generator)
    if not tensor.is_floating_point() or tensor.numel() < 2 or distinct_values(tensor) is not None:
        return tensor
    scale = 0.5 + 1.5 * float(torch.rand((), generator=generator))
    changed = tensor * scale
    if kind != "scaled":
        spread = float(tensor.flatten()[:_SAMPLE].double().std())
        centre = float(changed.flatten()[:_SAMPLE].double().mean())
        changed = changed - centre + (float(torch.rand((), generator=generator)) - 0.5) * spread
    if kind == "structured":
        changed = _with_odd_rows(changed, spread * scale, generator)
    return changed.to(tensor.dtype)


def _with_outliers(tensor: torch.Tensor, kind: str, generator: torch.Generator) -> torch.Tensor:
    """Return a tensor with a few elements far outside, `high_outliers`: above only. All others stay: whoever looks at a sample to choose a shortcut sees nothing."""
    flat = tensor.reshape(-1).clone()
    places = torch.randint(0, tensor.numel(), (min(_OUTLIERS, tensor.numel() // 2),), generator=generator)
    flat[places.to(flat.device)] *= _OUTLIER_FACTOR
    extremes = torch.tensor(_EXTREMES, dtype=torch.float64, device=flat.device) * float(tensor.flatten()[:_SAMPLE].abs().max())
    flat[torch.randint(0, tensor.numel(), (2,), generator=generator).to(flat.device)] = (
        extremes.abs() if kind == "high_outliers" else extremes
    ).to(flat.dtype)
    return flat.reshape(tensor.shape)


def _with_odd_rows(tensor: torch.Tensor, spread: float, generator: torch.Generator) -> torch.Tensor:
    """Return a tensor, which is changed, with three odd rows: one of zeros, one so small that an epsilon counts, one full of ties."""
    columns = tensor.shape[-1] if tensor.dim() > 1 else 0
    if columns < _LEAST_COLUMNS or tensor.numel() < _LEAST_ROWS * columns:
        return tensor
    rows = tensor.reshape(-1, columns)
    nothing, tiny, ties = (int(place) for place in torch.randint(0, len(rows), (3,), generator=generator))
    step = 2.0 ** round(math.log2(spread)) if 0 < spread < math.inf else 1.0
    rows[ties] = torch.round(rows[ties] / step) * step
    rows[tiny] *= _TINY
    rows[nothing] = 0
    return rows.reshape(tensor.shape)


def _is_constant(tensor: torch.Tensor) -> bool:
    """True if a real tensor holds one value only, so that nothing in the problem's own draws shows whether it is used."""
    if tensor.numel() == 0 or tensor.is_complex():
        return False
    flat = tensor.reshape(-1)
    return bool((flat[:_SAMPLE] == flat[0]).all()) and bool((flat == flat[0]).all())


def _vary_constant(tensor: torch.Tensor, generator: torch.Generator, shapes: Sequence[torch.Size]) -> torch.Tensor:
    """Return a tensor in the place of a constant one: another scale or bias, a mask with holes, shorter lengths; other integers stay.

    Args:
        tensor: One value throughout.
        generator: Source of the values.
        shapes: Those of the floating inputs; one integer for each row of such an input that equals one of its other sizes is a length.
    """
    value = tensor.reshape(-1)[0].item()
    if tensor.dtype == torch.bool:
        flipped = torch.rand(tensor.shape, generator=generator) < _FLIPPED_SHARE
        return tensor ^ flipped.to(tensor.device)
    if tensor.is_floating_point():
        if not math.isfinite(value):
            return tensor
        random = torch.rand(tensor.shape, generator=generator).to(tensor.device)
        return ((0.5 + random) * value if value else 0.1 + 0.4 * random).to(tensor.dtype)
    is_length = tensor.dim() == 1 and any(tensor.shape[0] == shape[0] and value in shape[1:] for shape in shapes if len(shape) > 1)
    if not is_length or value < 2:
        return tensor
    return tensor - torch.randint(0, int(value) // 2 + 1, tensor.shape, generator=generator).to(tensor.device, tensor.dtype)


def contrast(tree: Tree, generator: torch.Generator) -> Tree:
    """Return the inputs with samples that differ in what no average removes: gain, level and slow waves, each sample its own, within the range of the values.

    Samples of independent noise are all alike to a network that averages over places; these are not. Tensors of few values or in order stay.
    """
    return map_tensors(tree, lambda tensor: _contrasted(tensor, generator))


def _contrasted(tensor: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    if not tensor.is_floating_point() or tensor.dim() < 2 or tensor.numel() <= _FEW_VALUES or distinct_values(tensor) is not None:
        return tensor
    if not bool(torch.isfinite(tensor).all()):
        return tensor

    def random(*shape: int) -> torch.Tensor:
        return torch.rand(shape, generator=generator).to(tensor.device)

    low, high = tensor.min(), tensor.max()
    centre, reach = (low + high) / 2, (high - low) / 2
    samples = tensor.shape[0]
    channels = tensor.shape[1] if tensor.dim() > 3 else 1
    form = [samples, channels, *tensor.shape[2:]] if tensor.dim() > 3 else [samples, *tensor.shape[1:]]
    lead = 2 if tensor.dim() > 3 else 1
    wave = (2 * random(samples, channels) - 1).reshape([*form[:lead], *[1] * (tensor.dim() - lead)])
    level = (2 * random(samples, channels) - 1).reshape(wave.shape)
    for axis in range(lead, tensor.dim()):
        cycles, phase = (item.reshape([samples, *[1] * (tensor.dim() - 1)]) for item in (_MOST_CYCLES * random(samples), random(samples)))
        steps = torch.linspace(0.0, 1.0, tensor.shape[axis], device=tensor.device).reshape(
            [-1 if place == axis else 1 for place in range(tensor.dim())]
        )
        wave = wave * torch.cos(2 * math.pi * (cycles * steps + phase))
    gain = _LEAST_GAIN ** random(samples).reshape([samples, *[1] * (tensor.dim() - 1)])
    changed = centre + gain * (tensor - centre) + _FIELD_SHARE * reach * (wave + level)
    return changed.clamp(low, high).to(tensor.dtype)


def distinct_values(tensor: torch.Tensor) -> list[float] | None:
    """Return the values of a tensor that holds only a few distinct ones (labels, masks); None if it holds many."""
    if tensor.numel() <= _FEW_VALUES:
        return None
    values = torch.unique(tensor.reshape(-1)[:_SAMPLE].double())
    return sorted(values.tolist()) if len(values) <= _FEW_VALUES else None


def is_monotone(tensor: torch.Tensor) -> bool:
    """True for a sorted 1-D tensor (bucket boundaries, offsets), whose order carries meaning."""
    if tensor.dim() != 1 or tensor.numel() < 3:
        return False
    steps = tensor[1:] >= tensor[:-1]
    return bool(steps.all()) or bool((tensor[1:] <= tensor[:-1]).all())


def poke_rule(tensor: torch.Tensor) -> dict[str, Any] | None:  # Any: JSON
    """Return which values one element may be given between timed calls; None if the tensor must stay as it is.

    The rule is `{"low", "high"}` (inside the values that occur) or `{"choices"}`.
    """
    if tensor.is_complex() or tensor.dtype == torch.bool or tensor.numel() < 4 or is_monotone(tensor):
        return None
    if not tensor.is_floating_point():
        occurring = sorted(set(tensor.reshape(-1)[:: max(tensor.numel() // _INTEGER_CHOICES, 1)][:_INTEGER_CHOICES].tolist()))
        return {"choices": occurring} if len(occurring) > 1 and max(map(abs, occurring)) < 2**53 else None
    if tensor.element_size() < 2:
        return None
    choices = distinct_values(tensor)
    if choices is not None:
        return {"choices": choices} if len(choices) > 1 else None
    sample = tensor.reshape(-1)[:_SAMPLE].double()
    low, high = float(sample.min()), float(sample.max())
    return {"low": low, "high": high} if abs(low) < float("inf") and abs(high) < float("inf") and high > low else None


def perturb_weights(model: torch.nn.Module, generator: torch.Generator) -> None:
    """Move parameters and floating buffers away from their defaults, in place.

    A constant tensor (LayerNorm's ones and zeros, BatchNorm's running statistics) becomes its value plus 0.25·N(0, 1), a varied one gets noise of a tenth
    of its standard deviation. Buffers whose name ends in `var` stay positive. Monotone tensors (bucket boundaries) and tensors of few values stay.
    """
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if not tensor.is_floating_point() or tensor.layout is not torch.strided or tensor.numel() == 0:
            continue
        with torch.no_grad():
            spread = float(tensor.double().std()) if tensor.numel() > 1 else 0.0
            noise = torch.randn(tensor.shape, generator=generator, dtype=torch.float32).to(tensor.device, tensor.dtype)
            if spread == 0.0:
                tensor.add_(noise, alpha=0.25)
                if name.endswith("var"):
                    tensor.abs_().add_(0.1)
            elif not is_monotone(tensor) and distinct_values(tensor) is None:
                tensor.add_(noise, alpha=0.1 * spread)
