"""Run a model in float64 although its code makes float32 tensors: what the trusted reference is computed with.

Casting weights and inputs is not enough for a forward that calls `torch.zeros`, reads a tensor that is no parameter, or says `.float()`: the first stops at two
dtypes that do not mix, the last two quietly round. So operators are looked at one by one while the model runs.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from tools.worker import tensors

_WIDER = {torch.float32: torch.float64, torch.complex64: torch.complex128}
_HALF = (torch.float16, torch.bfloat16)
_RANDOM = frozenset(
    [
        "rand", "randn", "rand_like", "randn_like", "normal", "normal_", "normal_functional", "uniform", "uniform_", "bernoulli", "bernoulli_", "exponential", "exponential_",
        "native_dropout",
    ]
)  # fmt: skip
"""Operators that draw as many random bits as their dtype asks for."""


class NotWideError(TypeError):
    """Raised within `Wide` where float64 cannot take the place of another dtype: bits are looked at, or random numbers come from another device."""


class Wide(TorchDispatchMode):  # type: ignore[misc]  # torch has no types for it
    """Within it, float32 tensors that functions make, read or cast to are float64.

    Random numbers are drawn in `own`, the dtype of the problem, so that a seed gives the same ones. `.float()` means a higher precision and becomes float64; a cast to
    half or bfloat16 is a rounding that the problem wants: its result keeps that dtype, or with `carries` only its rounding, for code that mixes it with weights
    of the same dtype, which are float64 here. `used` says whether anything was changed.

    Args:
        own: Dtype of the problem's floating tensors.
        carries: Results of casts to half and bfloat16 are rounded and stay float64.
        draws: False where random numbers would come from another generator than the problem's; drawing then raises `NotWideError`.
    """

    def __init__(self, own: torch.dtype, *, carries: bool = False, draws: bool = True) -> None:
        super().__init__()
        self._own = own
        self._carries = carries
        self._draws = draws
        self.used = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # Any: torch's protocol
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        if name == "view" and func._overloadname == "dtype":
            raise NotWideError("the bits of a tensor are looked at")
        if name in _RANDOM:
            return self._drawn(func, args, kwargs)
        if any(isinstance(item, torch.Tensor) for item in _leaves((args, kwargs))):
            args, kwargs = tree_map(self._other_dtype, (args, kwargs))
        written = {id(item) for item in _written(func, args, kwargs)}
        args, kwargs = tree_map(lambda item: item if id(item) in written else self._wider(item), (args, kwargs))
        made = func(*args, **kwargs)
        if self._carries and name == "_to_copy" and made.dtype in _HALF and args[0].is_floating_point():
            return self._wider(made)
        return made if written else tree_map(self._wider, made)

    def _wider(self, value: Any) -> Any:  # Any: an operand or a result
        if not isinstance(value, torch.Tensor) or value.layout is not torch.strided:
            return value
        if self._carries and value.dtype in _HALF:
            self.used = True
            return value.to(torch.float64)
        if value.dtype not in _WIDER:
            return value
        self.used = True
        return value.to(_WIDER[value.dtype])

    def _other_dtype(self, value: Any) -> Any:  # Any: an argument
        if isinstance(value, torch.dtype) and value in _WIDER:
            self.used = True
            return _WIDER[value]
        return value

    def _drawn(self, func: Any, args: Any, kwargs: Any) -> Any:  # Any: torch's protocol
        """Draw in the problem's own dtype and widen the result."""
        if not self._draws:
            raise NotWideError("random numbers are drawn on another device")
        self.used = True
        if kwargs.get("dtype") is torch.float64:
            kwargs = {**kwargs, "dtype": self._own}
        if func._schema.is_mutable:
            kept = args[0].to(self._own) if _is_floating(args[0]) else args[0]
            made = func(kept, *args[1:], **kwargs)
            return args[0] if made is args[0] else args[0].copy_(made)
        narrow = tree_map(lambda item: item.to(self._own) if _is_floating(item) else item, (args, kwargs))
        made = func(*narrow[0], **narrow[1])
        if func.overloadpacket.__name__ == "native_dropout":
            kept_share = 1.0 - float(args[1])
            return args[0] * made[1] * (1.0 / kept_share if kept_share else 0.0), made[1]
        return tree_map(self._wider if not _is_double(made) else lambda item: item, made)


def widen(model: Any, place: str) -> Any:  # Any: nn.Module
    """Return a copy of a model on `place` whose floating tensors are float64: parameters, buffers, and what its modules hold besides."""
    made = copy.deepcopy(model).to(place).double()
    for module in made.modules():
        for held in (module._parameters, module._buffers):
            for tensor in held.values():
                if tensor is not None and tensor.dtype == torch.complex64:
                    tensor.data = tensor.data.to(torch.complex128)
        for name, value in list(vars(module).items()):
            if name in ("_parameters", "_buffers", "_modules") or not isinstance(value, (torch.Tensor, list, tuple, dict)):
                continue
            if any(_is_narrow(tensor) or place == "cpu" != tensor.device.type for tensor in tensors.tensors_of(value)):
                setattr(
                    module, name, tensors.map_tensors(value, lambda tensor: widened(tensor, place if place == "cpu" else tensor.device))
                )
    return made


def widened(tensor: torch.Tensor, place: str | torch.device) -> torch.Tensor:
    """Return a copy on `place`; floating tensors in float64, complex ones in complex128."""
    if tensor.is_complex():
        return (tensor.to(torch.complex128) if tensor.dtype == torch.complex64 else tensor.clone()).to(place)
    return (tensor.double() if tensor.is_floating_point() else tensor.clone()).to(place)


def own_dtype(tree: tensors.Tree) -> torch.dtype:
    """Return the dtype of the first floating tensor; float32 if there is none."""
    return next((tensor.dtype for tensor in tensors.tensors_of(tree) if tensor.is_floating_point()), torch.float32)


def _written(func: Any, args: Any, kwargs: Any) -> list[Any]:  # Any: torch's protocol
    """Return the arguments that an operator writes to."""
    if not func._schema.is_mutable:
        return []
    found = []
    for number, argument in enumerate(func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            given = args[number] if number < len(args) else kwargs.get(argument.name)
            found += list(given) if isinstance(given, (list, tuple)) else [given]
    return found


def _leaves(value: Any) -> list[Any]:  # Any: arguments
    found: list[Any] = []
    tree_map(found.append, value)
    return found


def _is_floating(value: Any) -> bool:  # Any: an argument
    return isinstance(value, torch.Tensor) and value.is_floating_point()


def _is_double(value: Any) -> bool:  # Any: a result
    return isinstance(value, torch.Tensor) and value.dtype == torch.float64


def _is_narrow(tensor: torch.Tensor) -> bool:
    return tensor.layout is torch.strided and tensor.dtype in (*_WIDER, *_HALF)
