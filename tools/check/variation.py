"""Change a problem's inputs and weights so that shortcuts that hold only for its defaults show up. Imports torch.

KernelBench files draw `torch.rand` or `torch.randn` and construct layers with their default parameters; a copy kernel then passes for LayerNorm and a
mean over a tenth of the elements for a mean. Every change keeps the order of sorted tensors (scales are positive) and leaves integers, masks and labels alone.
"""

from __future__ import annotations

from typing import Any

import torch

from tools.worker.tensors import Tree, map_tensors

_SAMPLE = 4096
_FEW_VALUES = 16
_OUTLIERS = 6
_OUTLIER_FACTOR = 30.0
_EXTREMES = (-200.0, 200.0)
"""Two more elements become this many times the largest magnitude of the rest: an exponential that nobody protects overflows."""
_INTEGER_CHOICES = 64


def vary(tree: Tree, kind: str, generator: torch.Generator) -> Tree:
    """Return the inputs with their floating tensors changed as `kind` says; each tensor gets its own random parameters."""
    if kind == "as_given":
        return tree
    return map_tensors(tree, lambda tensor: _vary_tensor(tensor, kind, generator))


def _vary_tensor(tensor: torch.Tensor, kind: str, generator: torch.Generator) -> torch.Tensor:
    if not tensor.is_floating_point() or tensor.numel() < 2 or distinct_values(tensor) is not None:
        return tensor
    scale = 0.5 + 1.5 * float(torch.rand((), generator=generator))
    changed = tensor * scale
    if kind in ("shifted", "outliers"):
        spread = float(tensor.flatten()[:_SAMPLE].double().std())
        centre = float(changed.flatten()[:_SAMPLE].double().mean()) if kind == "shifted" else 0.0
        changed = changed - centre + (float(torch.rand((), generator=generator)) - 0.5) * spread
    if kind == "outliers":
        flat = changed.reshape(-1)
        if not is_monotone(tensor):
            places = torch.randint(0, tensor.numel(), (min(_OUTLIERS, tensor.numel() // 2),), generator=generator)
            flat[places.to(flat.device)] *= _OUTLIER_FACTOR
            largest = float(tensor.flatten()[:_SAMPLE].abs().max()) * scale
            flat[torch.randint(0, tensor.numel(), (2,), generator=generator).to(flat.device)] = (
                torch.tensor(_EXTREMES, dtype=flat.dtype, device=flat.device) * largest
            )
        changed = flat.reshape(tensor.shape)
    return changed.to(tensor.dtype)


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
        if not tensor.is_floating_point() or tensor.numel() == 0:
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
