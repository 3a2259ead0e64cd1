"""How far PyTorch's own implementation may be off, told without float64: the same call with everything it reads moved by one in the last place.

For problems that cannot run in float64. What a rounding of the operands changes, another order of the same operations may change as well; a lower precision
changes thousands of times as much, so it is still seen.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator
from typing import Any

import torch

from tools.check.decision import EPSILON
from tools.check.variation import distinct_values, is_monotone
from tools.worker import tensors

_TRIES = 3
_STEP = 0.75
"""Epsilons: at least half a unit in the last place anywhere in a binade, so that rounding makes it one."""
_HALF_SHARE = 0.25
"""Half and bfloat16 numbers are moved one time in four: half a unit in the last place as a root mean square, little more than a rounding's 0.29."""


def samples(
    call: Callable[[Any, list[Any]], Any], model: Any, inputs: list[Any], seed: int
) -> Iterator[list[torch.Tensor]]:  # Any: trees, nn.Module
    """Yield outputs of a model for values that are one in the last place away; on an accelerator the first without cuDNN, so by other algorithms.

    Args:
        call: Runs a model on inputs and waits for the device.
        model: Stays as it is.
        inputs: Stay as they are.
        seed: Of the moves.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for number in range(_TRIES):
            try:
                moved = copy.deepcopy(model)
                for tensor in [*moved.parameters(), *moved.buffers()]:
                    tensor.copy_(nudged(tensor, generator))
            except Exception:  # a model of any kind; then the inputs alone say it
                moved = model
            given = tensors.map_tensors(inputs, lambda tensor: nudged(tensor, generator))
            with _without_cudnn() if number == 0 and _is_on_cuda(given) else contextlib.nullcontext():
                result = call(moved, given)
            yield [tensor.detach() for tensor in tensors.tensors_of(result)]


def widest(native: list[torch.Tensor], others: list[list[torch.Tensor]]) -> list[torch.Tensor]:
    """Return, element by element, that of the other outputs which is furthest from the native one; what is no floating tensor stays."""
    found = []
    for number, own in enumerate(native):
        far = own
        if own.is_floating_point() or own.is_complex():
            for other in (item[number] for item in others if item[number].shape == own.shape and item[number].dtype == own.dtype):
                far = torch.where((other - own).abs() > (far - own).abs(), other, far)
        found.append(far)
    return found


def nudged(tensor: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Return a copy of a floating tensor with its elements moved by one in the last place, up or down; sorted ones and those of a few values (masks) stay."""
    name = str(tensor.dtype).removeprefix("torch.")
    if (
        name not in EPSILON
        or tensor.layout is not torch.strided
        or tensor.numel() == 0
        or is_monotone(tensor)
        or distinct_values(tensor) is not None
    ):
        return tensor.clone()
    chance = torch.rand(tensor.shape, generator=generator).to(tensor.device)
    share = 1.0 if name in ("float32", "float64") else _HALF_SHARE
    step = torch.where(chance < share / 2, -1.0, torch.where(chance < share, 1.0, 0.0)).to(torch.float64)
    moved = (tensor.double() * (1.0 + _STEP * step * EPSILON[name])).to(tensor.dtype)
    return torch.empty_like(tensor).copy_(torch.where(torch.isfinite(moved), moved, tensor))


@contextlib.contextmanager
def _without_cudnn() -> Iterator[None]:
    kept = torch.backends.cudnn.enabled
    torch.backends.cudnn.enabled = False
    try:
        yield
    finally:
        torch.backends.cudnn.enabled = kept


def _is_on_cuda(inputs: list[Any]) -> bool:  # Any: argument trees
    return any(tensor.is_cuda for tensor in tensors.tensors_of(inputs))
