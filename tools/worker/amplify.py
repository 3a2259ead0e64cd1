"""Weights under which a deep network's outputs depend on its inputs. Imports torch; runs in the trusted reference process.

With PyTorch's default initialisation each layer without a normalisation shrinks what differs between samples, until biases are all that an output shows; one result
then passes for all inputs. Where there are normalisations, a deep sum of branches multiplies rounding errors until they hide what the inputs do. Scaling layer by layer in the order of the calls is the idea of LSUV (Mishkin and Matas, "All you need is a good init", 2016);
here means go, too, so that samples do not grow alike. Branches that end in a normalisation are damped, as residual networks are started to be trained
(Goyal et al., "Accurate, large minibatch SGD", 2017, with 0 in the place of 0.2).
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

_LEAST_VALUES = 8
"""Fewer values of a channel tell no mean; then the layer is scaled as a whole."""
_LEAST_SHARE = 1e-6
"""A channel that varies by less of its size is constant and stays."""
_BRANCH_SHARE = 0.2
_NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, *_TRANSPOSED)


class _Sums(TorchDispatchMode):  # type: ignore[misc]  # torch has no types for it
    """Within it, `ends` collects the normalisations whose results are added to something, one for each sum."""

    def __init__(self) -> None:
        super().__init__()
        self._made: dict[int, tuple[weakref.ref[torch.Tensor], nn.Module]] = {}
        self.ends: dict[int, nn.Module] = {}

    def note(self, layer: nn.Module, arguments: Any, output: Any) -> None:  # Any: torch's protocol of hooks
        """Remember what a normalisation gave."""
        if isinstance(output, torch.Tensor):
            self._made[id(output)] = (weakref.ref(output), layer)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # Any: torch's protocol
        if func.overloadpacket.__name__ in ("add", "add_"):
            for operand in args[:2]:
                made, layer = self._made.get(id(operand), (None, None))
                if made is not None and layer is not None and made() is operand:
                    self.ends[id(layer)] = layer
                    break
        return func(*args, **(kwargs or {}))


def damp_branches(model: nn.Module, call: Callable[[], object]) -> int:
    """Scale weight and bias of normalisations whose results are added to something, in place; returns how many layers changed. Arguments as for `amplify`."""
    sums = _Sums()
    hooks = [layer.register_forward_hook(sums.note) for layer in model.modules() if isinstance(layer, _NORMS)]
    try:
        with torch.no_grad(), sums:
            call()
    finally:
        for hook in hooks:
            hook.remove()
    changed = [layer for layer in sums.ends.values() if layer._parameters.get("weight") is not None]
    with torch.no_grad():
        for layer in changed:
            for parameter in layer._parameters.values():
                if parameter is not None:
                    parameter.mul_(_BRANCH_SHARE)
    return len(changed)


def amplify(model: nn.Module, call: Callable[[], object]) -> int:
    """Scale weights and shift biases in place so that each layer's outputs have no mean and a variance of 1 over a draw; returns how many layers changed.

    Args:
        model: Only parameters that are in its `state_dict` change.
        call: Runs the model on the draw, once.
    """
    done: set[int] = set()

    def normalise(layer: nn.Module, arguments: Any, output: Any) -> Any:  # Any: torch's protocol of hooks
        weight = layer._parameters.get("weight")
        if weight is None or id(weight) in done or not isinstance(output, torch.Tensor):
            return None
        axis = -1 if isinstance(layer, nn.Linear) else output.dim() - weight.dim() + 1
        changed = _normalised(layer, weight, output, axis)
        if changed is not None:
            done.add(id(weight))
        return changed

    hooks = [layer.register_forward_hook(normalise) for layer in model.modules() if isinstance(layer, _LAYERS)]
    try:
        with torch.no_grad():
            call()
    finally:
        for hook in hooks:
            hook.remove()
    return len(done)


def _normalised(layer: nn.Module, weight: torch.Tensor, output: torch.Tensor, axis: int) -> torch.Tensor | None:
    """Change a layer and return what it gives then; None where it stays."""
    values = output.movedim(axis, 0).reshape(output.shape[axis], -1).float()
    channels, count = values.shape
    bias = layer._parameters.get("bias")
    by_channel = count >= _LEAST_VALUES and not (isinstance(layer, _TRANSPOSED) and int(layer.groups) > 1)
    size = values.square().mean(1).sqrt() if by_channel else values.square().mean().sqrt().expand(channels)
    spread = values.std(1) if by_channel and bias is not None else size  # whose mean stays has its size for a measure
    if not bool(torch.isfinite(spread).all()) or not bool((spread > 0).any()):
        return None
    varies = (spread > _LEAST_SHARE * size) & (spread > 0)
    scale = torch.where(varies, 1.0 / spread, 1.0)
    shift = torch.where(varies, values.mean(1), 0.0) if by_channel and bias is not None else torch.zeros_like(scale)
    out_axis = 1 if isinstance(layer, _TRANSPOSED) else 0
    per_weight = scale if weight.shape[out_axis] == channels else scale[:1]
    weight.copy_(weight.float() * per_weight.reshape([-1 if place == out_axis else 1 for place in range(weight.dim())]))
    if bias is not None:
        bias.copy_((bias.float() - shift) * scale)
    form = [-1 if place == axis % output.dim() else 1 for place in range(output.dim())]
    return ((output.float() - shift.reshape(form)) * scale.reshape(form)).to(output.dtype)
