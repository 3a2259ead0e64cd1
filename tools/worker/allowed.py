"""What an operator may be off where PyTorch's own settings let it work in TF32: its operands rounded, the rest as it is.

Whether cuDNN takes TF32 for a convolution depends on its sizes and layout, so one call of PyTorch's says little of what its settings allow: the same problem through
torch.compile may be a thousand times further off.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from tools.check.operators import CONTRACTIONS

_DROPPED_BITS = 13
"""A TF32 number has 10 of float32's 23 bits after the point (NVIDIA, Ampere architecture white paper)."""


class Tf32Operands(TorchDispatchMode):  # type: ignore[misc]  # torch has no types for it
    """Within it, float32 operands of convolutions are rounded to TF32, and those of matrix products where `matmul` is set; `used` says whether there were any."""

    def __init__(self, *, matmul: bool = False) -> None:
        super().__init__()
        self._names = ("convolution", "_convolution", *(CONTRACTIONS if matmul else ()))
        self.used = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # Any: torch's protocol
        if func.overloadpacket.__name__ in self._names and args and args[0].dtype == torch.float32:
            self.used = True
            args = tree_map(_rounded, args)
        return func(*args, **(kwargs or {}))


def _rounded(value: Any) -> Any:  # Any: an operand
    return to_tf32(value) if isinstance(value, torch.Tensor) and value.ndim > 1 and value.dtype == torch.float32 else value


def to_tf32(values: torch.Tensor) -> torch.Tensor:
    """Return float32 values rounded to the nearest TF32 numbers, ties to even; NaN and infinity stay."""
    bits = values.contiguous().view(torch.int32)
    odd = (bits >> _DROPPED_BITS) & 1
    rounded = ((bits + ((1 << (_DROPPED_BITS - 1)) - 1 + odd)) & -(1 << _DROPPED_BITS)).view(torch.float32)
    return torch.where(torch.isfinite(values) & torch.isfinite(rounded), rounded, values)
