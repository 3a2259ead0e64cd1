"""Tensors and argument trees as bytes in an arena plus a JSON specification. Imports torch.

A node of a specification is one of
`{"tensor": {dtype, shape, stride, offset, nbytes}}`, `{"value": JSON scalar}`, `{"list": [...]}`, `{"tuple": [...]}`, `{"dict": {...}}`, `{"dtype": name}`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from tools.worker.arena import align

DTYPES = {
    name: getattr(torch, name)
    for name in ("float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool", "complex64", "complex128",
                 "float8_e4m3fn", "float8_e5m2", "uint16", "uint32", "uint64")
}  # fmt: skip
NAMES = {dtype: name for name, dtype in DTYPES.items()}
Tree = Any  # nested lists, tuples, dicts of tensors and scalars


class UnsupportedValueError(Exception):
    """A value in an argument tree is neither a tensor nor a JSON scalar nor a container of such."""


def tensors_of(tree: Tree) -> Iterator[torch.Tensor]:
    """Yield the tensors of a tree, depth first."""
    if isinstance(tree, torch.Tensor):
        yield tree
    elif isinstance(tree, (list, tuple)):
        for item in tree:
            yield from tensors_of(item)
    elif isinstance(tree, dict):
        for item in tree.values():
            yield from tensors_of(item)


def map_tensors(tree: Tree, function: Callable[[torch.Tensor], torch.Tensor]) -> Tree:
    """Return the tree with `function` applied to each tensor."""
    if isinstance(tree, torch.Tensor):
        return function(tree)
    if isinstance(tree, (list, tuple)):
        items = [map_tensors(item, function) for item in tree]
        return tuple(items) if isinstance(tree, tuple) else items
    if isinstance(tree, dict):
        return {key: map_tensors(item, function) for key, item in tree.items()}
    return tree


def describe(tree: Tree, offset: int = 0) -> tuple[dict[str, Any], int]:  # Any: JSON
    """Return the specification of a tree laid out from `offset`, and the offset behind it.

    Raises:
        UnsupportedValueError: Something in the tree cannot be sent.
    """
    if isinstance(tree, torch.Tensor):
        if torch.nn.parameter.is_lazy(tree):
            raise UnsupportedValueError("a lazy parameter has no shape yet; call the model once in its constructor")
        if tree.layout is not torch.strided or tree.is_nested:
            kind = "nested" if tree.is_nested else str(tree.layout).removeprefix("torch.")
            raise UnsupportedValueError(
                f"a {kind} tensor cannot be sent; send the dense tensors that it is made of and build it in forward"
            )
        if tree.dtype not in NAMES:
            raise UnsupportedValueError(f"a tensor of dtype {tree.dtype} cannot be sent")
        offset, nbytes = align(offset), tree.numel() * tree.element_size()
        spec = {"dtype": NAMES[tree.dtype], "shape": list(tree.shape), "stride": list(tree.stride()), "offset": offset, "nbytes": nbytes}
        return {"tensor": spec}, offset + nbytes
    if tree is None or isinstance(tree, (bool, int, float, str)):
        return {"value": tree}, offset
    if isinstance(tree, torch.dtype) and tree in NAMES:
        return {"dtype": NAMES[tree]}, offset
    if isinstance(tree, torch.Size):
        tree = tuple(tree)
    if isinstance(tree, (list, tuple)):
        items = []
        for item in tree:
            spec, offset = describe(item, offset)
            items.append(spec)
        return {"tuple" if isinstance(tree, tuple) else "list": items}, offset
    if isinstance(tree, dict) and all(isinstance(key, str) for key in tree):
        named = {}
        for key, item in tree.items():
            named[key], offset = describe(item, offset)
        return {"dict": named}, offset
    raise UnsupportedValueError(
        f"a value of type {type(tree).__name__} cannot be sent; use tensors, numbers, strings, lists, tuples or dicts"
    )


def moved(spec: dict[str, Any], distance: int) -> dict[str, Any]:  # Any: JSON
    """Return a specification whose tensors lie `distance` bytes further on."""
    if "tensor" in spec:
        return {"tensor": {**spec["tensor"], "offset": spec["tensor"]["offset"] + distance}}
    for kind in ("list", "tuple"):
        if kind in spec:
            return {kind: [moved(item, distance) for item in spec[kind]]}
    return {"dict": {key: moved(item, distance) for key, item in spec["dict"].items()}} if isinstance(spec.get("dict"), dict) else spec


def tensor_specs(spec: dict[str, Any]) -> Iterator[dict[str, Any]]:  # Any: JSON
    """Yield the tensor entries of a specification in the order of `tensors_of`."""
    if "tensor" in spec:
        yield spec["tensor"]
    for item in spec.get("list", spec.get("tuple", ())):
        yield from tensor_specs(item)
    for item in spec.get("dict", {}).values():
        yield from tensor_specs(item)


def view(memory: Any, spec: dict[str, Any]) -> torch.Tensor:  # Any: a writable buffer; JSON
    """Return a contiguous CPU tensor over the bytes of one tensor entry, without copying."""
    dtype, shape = DTYPES[spec["dtype"]], spec["shape"]
    if spec["nbytes"] == 0:
        return torch.empty(shape, dtype=dtype)
    raw = torch.frombuffer(memory, dtype=torch.uint8, count=spec["nbytes"], offset=spec["offset"])
    return raw.view(dtype).view(shape)


def write(tree: Tree, spec: dict[str, Any], memory: Any) -> None:  # Any: JSON; a writable buffer
    """Copy the tensors of a tree into the buffer as its specification says."""
    for tensor, entry in zip(tensors_of(tree), tensor_specs(spec), strict=True):
        if tensor.numel():
            view(memory, entry).copy_(tensor.detach())


def lies_as_it_should(entry: dict[str, Any]) -> bool:  # Any: JSON
    """Return whether a tensor's bytes lie in the buffer in the order of its strides, so that a view of them is that tensor."""
    return bool(entry["nbytes"] == 0 or entry["stride"] == row_major(entry["shape"]))


def read(spec: dict[str, Any], memory: Any, device: str, *, in_place: bool = False) -> Tree:  # Any: JSON; a buffer
    """Rebuild a tree with fresh tensors on `device`, strides restored where no two elements overlap; `in_place`: what lies there as it should is not copied.

    Without memory (None) the tensors hold whatever they find.
    """
    if "tensor" in spec:
        entry = spec["tensor"]
        if in_place and device == "cpu" and lies_as_it_should(entry):
            return view(memory, entry)
        stride = entry["stride"] if is_dense(entry["shape"], entry["stride"]) else None
        dtype = DTYPES[entry["dtype"]]
        fresh = (
            torch.empty(entry["shape"], dtype=dtype, device=device)
            if stride is None
            else torch.empty_strided(entry["shape"], stride, dtype=dtype, device=device)
        )
        if entry["nbytes"] and memory is not None:
            fresh.copy_(view(memory, entry))
        return fresh
    if "value" in spec:
        return spec["value"]
    if "dtype" in spec:
        return DTYPES[spec["dtype"]]
    if "dict" in spec:
        return {key: read(item, memory, device, in_place=in_place) for key, item in spec["dict"].items()}
    items = [read(item, memory, device, in_place=in_place) for item in spec.get("list", spec.get("tuple", ()))]
    return tuple(items) if "tuple" in spec else items


def row_major(shape: list[int]) -> list[int]:
    """Return the strides of a contiguous tensor."""
    strides, step = [], 1
    for size in reversed(shape):
        strides.append(step)
        step *= max(size, 1)
    return strides[::-1]


def is_dense(shape: list[int], stride: list[int]) -> bool:
    """True if the strides are a permutation of a contiguous layout."""
    expected = 1
    for step, size in sorted((step, size) for step, size in zip(stride, shape, strict=True) if size > 1):
        if step != expected:
            return False
        expected *= size
    return True


def shares_memory(result: Tree, arguments: Tree) -> bool:
    """True if an output shares memory with an input."""
    spans = [_span(tensor) for tensor in tensors_of(arguments) if tensor.numel()]
    return any(_overlaps(_span(tensor), span) for tensor in tensors_of(result) if tensor.numel() for span in spans)


def share_memory(results: Sequence[Tree]) -> bool:
    """True if two of several outputs share memory; those of one may."""
    spans = sorted({(*_span(tensor), number) for number, result in enumerate(results) for tensor in tensors_of(result) if tensor.numel()})
    return any(_overlaps(left[:2], right[:2]) and left[2] != right[2] for left, right in itertools.pairwise(spans))


def _span(tensor: torch.Tensor) -> tuple[int, int]:
    storage = tensor.untyped_storage()
    return storage.data_ptr(), storage.data_ptr() + storage.nbytes()


def _overlaps(left: tuple[int, int], right: tuple[int, int]) -> bool:
    return left[0] < right[1] and right[0] < left[1]
