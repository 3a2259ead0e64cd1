"""Does each parameter, buffer and input of a reference matter? One that does not is one that a candidate may ignore unseen. Imports torch."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from tools.worker.tensors import tensors_of

_CHANGE = 1e-5
"""Outputs that differ by less than this share of their root mean square are taken for equal: float32's own rounding is a tenth of it."""
_AWAY = 8
"""An element moves by its neighbours' distance in memory; a tensor of equal elements by this part of one."""


def without_effect(
    call: Callable[[], Any], leaves: Mapping[str, torch.Tensor], *, seconds: float, clock: Callable[[], float] = time.monotonic
) -> tuple[list[str], int]:  # Any: a tree of tensors
    """Change each floating tensor alone, by turning its elements and scaling them, and look at the outputs; every tensor is as it was afterwards.

    Args:
        call: Computes the outputs from the tensors as they are.
        leaves: Tensors by name, in the memory that `call` reads.
        seconds: No further one is tried after so long.

    Returns:
        Names of those without any effect, and how many were tried. One whose change makes the reference fail matters.
    """
    began = clock()
    before = [tensor.clone() for tensor in tensors_of(call())]
    silent, tried = [], 0
    for name, tensor in leaves.items():
        if not tensor.is_floating_point() or tensor.numel() == 0:
            continue
        if clock() - began > seconds:
            break
        tried += 1
        kept = tensor.clone()
        try:
            tensor.copy_(_moved(kept))
            after = list(tensors_of(call()))
            if not _differ(before, after):
                silent.append(name)
        except (RuntimeError, ValueError, ArithmeticError, IndexError):
            continue
        finally:
            tensor.copy_(kept)
    return silent, tried


def _moved(tensor: torch.Tensor) -> torch.Tensor:
    """Return other values of the same kind: the elements moved on by one and scaled, so that equal ones change, too."""
    return (
        torch.roll(tensor.flatten(), 1).view(tensor.shape) * 1.25 + tensor.abs().mean() / _AWAY + (1.0 / _AWAY if not tensor.any() else 0.0)
    )


def _differ(before: Sequence[torch.Tensor], after: Sequence[torch.Tensor]) -> bool:
    for old, new in zip(before, after, strict=True):
        if old.shape != new.shape:
            return True
        if old.numel() == 0:
            continue
        if not old.is_floating_point():
            if not torch.equal(old, new):
                return True
            continue
        gap = (new.double() - old.double()).square().mean().sqrt()
        if not bool(gap <= _CHANGE * old.double().square().mean().sqrt()):  # what is not a number differs
            return True
    return False
