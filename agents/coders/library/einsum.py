"""`einsum` as matrix products, in the order that PyTorch takes them (from left to right, or `opt_einsum`'s path): kernels for products and pointwise work match its parts.

Left alone: an ellipsis, a label twice in one operand, a label that only one operand has and nothing needs (a plain sum), sizes that broadcast,
and results that PyTorch would lay out in another way.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from agents.coders.library.graph import Argument, Node, Ref, TensorSpec, refs_in
from agents.coders.library.layout import reshaped


class _Emit(Protocol):
    def __call__(self, op: str, spec: TensorSpec, *arguments: Argument, last: bool = False) -> Ref: ...


@dataclass(frozen=True)
class _Operand:
    """A value with a label for each axis."""

    value: Ref
    spec: TensorSpec
    labels: str


class _Builder:
    """Emits the operators of one `einsum`."""

    def __init__(self, emit: _Emit, sizes: Mapping[str, int]) -> None:
        self._emit = emit
        self._sizes = sizes

    def size(self, labels: str) -> int:
        return math.prod(self._sizes[label] for label in labels)

    def turned(self, operand: _Operand, labels: str, *, last: bool = False) -> _Operand:
        """Give the axes the order of the labels."""
        if operand.labels == labels and not last:
            return operand
        order = tuple(map(operand.labels.index, labels))
        shape, stride = (tuple(sizes[axis] for axis in order) for sizes in (operand.spec.shape, operand.spec.stride))
        spec = TensorSpec(shape, operand.spec.dtype, stride)
        value = self._emit("aten.permute.default", spec, Argument("self", operand.value), Argument("dims", order), last=last)
        return _Operand(value, spec, labels)

    def shaped(self, operand: _Operand, shape: Sequence[int], labels: str, *, last: bool = False) -> _Operand:
        """Give it another shape, whose axes the labels stand for together."""
        if operand.spec.shape == tuple(shape) and not last:
            return _Operand(operand.value, operand.spec, labels)
        spec = reshaped(operand.spec, shape)
        value = self._emit("aten.reshape.default", spec, Argument("self", operand.value), Argument("shape", tuple(shape)), last=last)
        return _Operand(value, spec, labels)

    def joined(self, left: _Operand, right: _Operand, needed: str) -> _Operand:
        """Multiply two operands and sum over the labels of both that nothing needs any more."""
        shared = "".join(label for label in _ordered(left.labels, needed) if label in right.labels)
        batch = "".join(label for label in shared if label in needed)
        summed = "".join(label for label in shared if label not in needed)
        rows, columns = (
            "".join(label for label in _ordered(one.labels, needed) if label not in other.labels)
            for one, other in ((left, right), (right, left))
        )
        if summed and rows and columns and needed.find(rows[0]) > needed.find(columns[0]):
            return self.joined(right, left, needed)  # the result then lies as it is wanted
        labels = batch + rows + columns
        if not summed:
            labels = next(
                (one.labels for one in (left, right) if set(one.labels) == set(labels)), labels
            )  # stays an epilogue of what made it
        shape = [self._sizes[label] for label in labels]
        result = TensorSpec(tuple(shape), left.spec.dtype, ()).contiguous()
        if not summed:
            sides = []
            for one in (left, right):
                own = "".join(label for label in labels if label in one.labels)
                sides.append(
                    self.shaped(self.turned(one, own), [self._sizes[label] if label in own else 1 for label in labels], labels).value
                )
            value = self._emit("aten.mul.Tensor", result, Argument("self", sides[0]), Argument("other", sides[1]))
            return _Operand(value, result, labels)
        count = [self.size(batch)] if batch else []
        first = self.shaped(self.turned(left, batch + rows + summed), [*count, self.size(rows), self.size(summed)], "")
        second = self.shaped(self.turned(right, batch + summed + columns), [*count, self.size(summed), self.size(columns)], "")
        product = TensorSpec((*count, self.size(rows), self.size(columns)), left.spec.dtype, ()).contiguous()
        value = self._emit("aten.matmul.default", product, Argument("self", first.value), Argument("other", second.value))
        return self.shaped(_Operand(value, product, ""), shape, labels)


def unfold_einsum(node: Node, spec_of: Callable[[str], TensorSpec | None], emit: _Emit) -> bool:
    """Emit the operators for a node; False, with nothing emitted, where it is left alone.

    Args:
        node: `aten.einsum.default`.
        spec_of: Spec of a value by name.
        emit: Adds an operator; the one with `last` takes the node's name.
    """
    equation, tensors, final = node.argument("equation"), node.argument("tensors"), node.spec
    if not isinstance(equation, str) or not isinstance(tensors, tuple) or final is None or "->" not in equation:
        return False
    inputs, output = equation.replace(" ", "").split("->")
    terms = inputs.split(",")
    specs = [spec_of(name) for name in refs_in(tensors)]
    if len(terms) != len(specs) or len(terms) < 2 or not _is_plain(terms, output, specs, final):
        return False
    operands = [
        _Operand(Ref(name), spec, term) for name, spec, term in zip(refs_in(tensors), specs, terms, strict=True) if spec is not None
    ]
    sizes = {label: size for item in operands for label, size in zip(item.labels, item.spec.shape, strict=True)}
    if any(sizes[label] != size for item in operands for label, size in zip(item.labels, item.spec.shape, strict=True)):
        return False
    pending: list[tuple[str, TensorSpec, tuple[Argument, ...], bool]] = []

    def note(op: str, spec: TensorSpec, *arguments: Argument, last: bool = False) -> Ref:
        """Emit only once everything is known to fit."""
        pending.append((op, spec, arguments, last))
        return Ref(f"{node.name}_part{len(pending) - 1}")

    builder = _Builder(note, sizes)
    order = sorted(range(final.ndim), key=lambda axis: -final.stride[axis])
    lying = "".join(output[axis] for axis in order)
    path = node.argument("path")
    steps = [item for item in path if isinstance(item, int)] if isinstance(path, tuple) else []
    while len(operands) > 1:
        one, other = sorted((steps.pop(0), steps.pop(0))) if len(steps) > 1 else (0, 1)
        if not 0 <= one < other < len(operands):
            return False
        second, first = operands.pop(other), operands.pop(one)
        needed = lying + "".join(item.labels for item in operands)
        if not set(first.labels) ^ set(second.labels) <= set(needed):
            return False
        joined = builder.joined(first, second, needed)
        operands.insert(len(operands) if isinstance(path, tuple) else 0, joined)
    found = operands[0]
    if found.labels == output:
        found = builder.shaped(found, found.spec.shape, output, last=True)
    else:
        found = builder.turned(found, output, last=True)
    if any(size > 1 and wanted != own for size, wanted, own in zip(final.shape, final.stride, found.spec.stride, strict=True)):
        return False
    for op, spec, arguments, last in pending:
        emit(op, spec, *arguments, last=last)
    return True


def _ordered(labels: str, needed: str) -> str:
    """Return labels in the order in which they are needed, the others behind."""
    return "".join(sorted(labels, key=lambda label: (needed.find(label) < 0, needed.find(label), label)))


def _is_plain(terms: Sequence[str], output: str, specs: Sequence[TensorSpec | None], final: TensorSpec) -> bool:
    """Say whether every label names one axis of its operand and all operands are of one floating type."""
    return all(
        spec is not None and len(term) == spec.ndim and term.isalpha() and len(set(term)) == len(term) and spec.dtype == final.dtype
        for term, spec in zip(terms, specs, strict=True)
    ) and ("float" in final.dtype and len(set(output)) == len(output) and set(output) <= set("".join(terms)))
