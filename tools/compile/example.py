"""The arguments with which a kernel document's `launch` is compiled: its example plus the defaults of its tunables.

A tunable's default may be an expression over the arguments (see "Expressions" in docs/architecture.md); this evaluates the same small language, strictly.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tools.errors import ProblemError

_OPERATORS: Mapping[type[ast.AST], Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda item, group: item in group,
    ast.NotIn: lambda item, group: item not in group,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
    ast.USub: operator.neg,
    ast.Not: operator.not_,
}
_FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "prod": math.prod,
    "len": len,
    "min": min,
    "max": max,
    "abs": abs,
    "cdiv": lambda a, b: -(-a // b),
    "next_pow2": lambda n: 1 << max(0, int(n) - 1).bit_length(),
    "all_equal": lambda items: len(set(items)) <= 1,
}


@dataclass(frozen=True)
class ExampleTensor:
    """A tensor argument as expressions see it."""

    shape: tuple[int, ...]
    dtype: str

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    @property
    def numel(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def is_contiguous(self) -> bool:
        """Examples are contiguous."""
        return True

    @property
    def stride(self) -> tuple[int, ...]:
        """Strides of the contiguous layout, in elements."""
        return tuple(math.prod(self.shape[axis + 1 :]) for axis in range(self.ndim))


def launch_arguments(example: Mapping[str, Any], tunables: Mapping[str, Any]) -> dict[str, Any]:
    """Return the example with each tunable's default evaluated over it; an argument that the example states itself wins.

    A default over `output` or `limits`, which an example does not know, is left to `launch`'s own default.

    Raises:
        ProblemError: A default cannot be evaluated.
    """
    names: dict[str, Any] = {name: _seen(value) for name, value in example.items()}
    found = dict(example)
    for name, tunable in tunables.items():
        if name in example:
            continue
        default = tunable.get("default") if isinstance(tunable, Mapping) else tunable
        if isinstance(default, str) and not _known(default) <= names.keys():
            continue
        names[name] = found[name] = evaluate(default, names) if isinstance(default, str) else default
    return found


def evaluate(expression: str, names: Mapping[str, Any]) -> Any:  # Any: whatever the expression is about
    """Evaluate an expression of the documents over arguments by name.

    Raises:
        ProblemError: It is not one, or names something that is not there.
    """
    try:
        return _value(ast.parse(expression, mode="eval").body, names)
    except (SyntaxError, KeyError, TypeError, AttributeError, ArithmeticError, IndexError) as error:
        raise ProblemError(
            f"cannot evaluate {expression!r}: {type(error).__name__} {error}; known functions: {', '.join(_FUNCTIONS)}"
        ) from error


def _known(expression: str) -> set[str]:
    try:
        return {node.id for node in ast.walk(ast.parse(expression, mode="eval")) if isinstance(node, ast.Name)} - _FUNCTIONS.keys()
    except SyntaxError:
        return set()


def _seen(value: Any) -> Any:
    if isinstance(value, Mapping) and set(value) >= {"shape", "dtype"}:
        return ExampleTensor(tuple(value["shape"]), str(value["dtype"]))
    return tuple(value) if isinstance(value, list) else value


def _value(node: ast.expr, names: Mapping[str, Any]) -> Any:
    def of(child: ast.expr) -> Any:
        return _value(child, names)

    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Name):
        return names[node.id]
    if isinstance(node, ast.Attribute) and not node.attr.startswith("_"):
        return getattr(of(node.value), node.attr)
    if isinstance(node, ast.Tuple | ast.List):
        return tuple(of(item) for item in node.elts)
    if isinstance(node, ast.Subscript):
        index = (
            slice(*(None if part is None else of(part) for part in (node.slice.lower, node.slice.upper, node.slice.step)))
            if isinstance(node.slice, ast.Slice)
            else of(node.slice)
        )
        return of(node.value)[index]
    if isinstance(node, ast.IfExp):
        return of(node.body) if of(node.test) else of(node.orelse)
    if isinstance(node, ast.BoolOp):
        results = [of(item) for item in node.values]
        return all(results) if isinstance(node.op, ast.And) else any(results)
    if isinstance(node, ast.BinOp):
        return _OPERATORS[type(node.op)](of(node.left), of(node.right))
    if isinstance(node, ast.UnaryOp):
        return _OPERATORS[type(node.op)](of(node.operand))
    if isinstance(node, ast.Compare):
        values = [of(node.left), *map(of, node.comparators)]
        return all(_OPERATORS[type(op)](a, b) for op, a, b in zip(node.ops, values, values[1:], strict=False))
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
        return _FUNCTIONS[node.func.id](*map(of, node.args))
    raise TypeError(f"{type(node).__name__} is not allowed")
