"""The small expression language of kernel documents (`requires`, `constraints`, `columns`, tunable defaults), evaluated without `eval`.

Allowed: arithmetic, comparisons, `and or not`, `in`, conditional expressions, indexing, tuples, lists, strings and numbers, the attributes of a
tensor argument (`shape dtype stride ndim numel is_contiguous`), `limits.NAME`, and the functions in `FUNCTIONS`. Anything else is an error when
the expression is read, so a document cannot run code.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from tools.errors import ExpressionError

_ITEM_BYTES = {
    "float64": 8, "int64": 8, "complex64": 8, "complex128": 16, "float16": 2, "bfloat16": 2, "int16": 2, "bool": 1, "int8": 1, "uint8": 1,
}  # fmt: skip
"""Of torch's types that have not four."""


@dataclass(frozen=True)
class TensorSpec:
    """Shape, dtype and layout of one tensor value."""

    shape: tuple[int, ...]
    dtype: str
    """Torch's name without the prefix, for example `float32`."""
    stride: tuple[int, ...]
    """In elements."""

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    @property
    def numel(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def item_bytes(self) -> int:
        """Bytes of one element."""
        return _ITEM_BYTES.get(self.dtype, 4)

    @property
    def nbytes(self) -> int:
        """Bytes of all elements."""
        return self.numel * self.item_bytes

    @property
    def is_contiguous(self) -> bool:
        """True if row-major without gaps; the stride of a dimension of size 1 does not matter."""
        expected = 1
        for size, stride in zip(reversed(self.shape), reversed(self.stride), strict=True):
            if size == 1:
                continue
            if stride != expected:
                return self.numel == 0
            expected *= size
        return True

    def contiguous(self) -> TensorSpec:
        """Return the same tensor in row-major layout."""
        stride: list[int] = []
        step = 1
        for size in reversed(self.shape):
            stride.append(step)
            step *= max(size, 1)
        return replace(self, stride=tuple(reversed(stride)))


ATTRIBUTES = frozenset({"shape", "dtype", "stride", "ndim", "numel", "is_contiguous"})


def _next_pow2(value: int) -> int:
    return 1 if value <= 1 else 1 << (int(value) - 1).bit_length()


def _all_equal(*values: Any) -> bool:  # Any: values of expressions
    items = values[0] if len(values) == 1 and isinstance(values[0], tuple) else values
    return all(item == items[0] for item in items)


FUNCTIONS: Mapping[str, Callable[..., Any]] = {  # Any: values of expressions
    "prod": math.prod,
    "len": len,
    "min": min,
    "max": max,
    "cdiv": lambda a, b: -(-a // b),
    "next_pow2": _next_pow2,
    "abs": abs,
    "all_equal": _all_equal,
}

_BINARY: Mapping[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
    ast.LShift: operator.lshift,
    ast.RShift: operator.rshift,
}
_UNARY: Mapping[type, Callable[[Any], Any]] = {ast.USub: operator.neg, ast.UAdd: operator.pos, ast.Not: operator.not_}
_COMPARE: Mapping[type, Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda a, b: a in b,
    ast.NotIn: lambda a, b: a not in b,
    ast.Is: lambda a, b: a is b,
    ast.IsNot: lambda a, b: a is not b,
}


@dataclass(frozen=True)
class Expression:
    """A parsed expression; `evaluate` may be called with any scope."""

    text: str
    tree: ast.expr

    def names(self) -> frozenset[str]:
        """Return the free names (functions excluded)."""
        return frozenset(node.id for node in ast.walk(self.tree) if isinstance(node, ast.Name) and node.id not in FUNCTIONS)

    def evaluate(self, scope: Mapping[str, Any]) -> Any:  # Any: a number, string, bool, tuple, tensor spec or None
        """Compute the value.

        Args:
            scope: Names to values: numbers, strings, tuples, None, `TensorSpec`, and `limits` as a mapping from name to number.

        Raises:
            ExpressionError: A name is unknown, or the operation fails (for example an attribute of None).
        """
        try:
            return _evaluate(self.tree, scope)
        except ExpressionError:
            raise
        except (TypeError, ValueError, ZeroDivisionError, IndexError, OverflowError) as error:
            raise ExpressionError(f"cannot evaluate {self.text!r}: {error}") from error


@lru_cache(maxsize=4096)
def parse(text: str) -> Expression:
    """Read an expression.

    Raises:
        ExpressionError: It is no Python expression, or uses something outside the language.
    """
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except SyntaxError as error:
        raise ExpressionError(f"not an expression: {text!r} ({error.msg})") from error
    _check(tree, text)
    return Expression(text, tree)


def evaluate(text: str | int | float | bool, scope: Mapping[str, Any]) -> Any:  # Any: see Expression.evaluate
    """Parse and evaluate; numbers stand for themselves."""
    return parse(text).evaluate(scope) if isinstance(text, str) else text


def _check(node: ast.expr, text: str) -> None:
    if isinstance(node, ast.Constant):
        ok = node.value is None or isinstance(node.value, bool | int | float | str)
        parts: list[ast.expr] = []
    elif isinstance(node, ast.Name):
        ok, parts = not node.id.startswith("_"), []
    elif isinstance(node, ast.Attribute):
        is_limit = isinstance(node.value, ast.Name) and node.value.id == "limits"
        ok, parts = is_limit or node.attr in ATTRIBUTES, [node.value]
    elif isinstance(node, ast.BinOp):
        ok, parts = type(node.op) in _BINARY, [node.left, node.right]
    elif isinstance(node, ast.UnaryOp):
        ok, parts = type(node.op) in _UNARY, [node.operand]
    elif isinstance(node, ast.BoolOp):
        ok, parts = True, list(node.values)
    elif isinstance(node, ast.Compare):
        ok, parts = all(type(item) in _COMPARE for item in node.ops), [node.left, *node.comparators]
    elif isinstance(node, ast.IfExp):
        ok, parts = True, [node.test, node.body, node.orelse]
    elif isinstance(node, ast.Subscript):
        ok, parts = True, [node.value, node.slice]
    elif isinstance(node, ast.Slice):
        ok, parts = True, [part for part in (node.lower, node.upper, node.step) if part is not None]
    elif isinstance(node, ast.Tuple | ast.List):
        ok, parts = True, list(node.elts)
    elif isinstance(node, ast.Call):
        ok = isinstance(node.func, ast.Name) and node.func.id in FUNCTIONS and not node.keywords
        parts = list(node.args)
    else:
        ok, parts = False, []
    if not ok:
        allowed = ", ".join(sorted(FUNCTIONS))
        raise ExpressionError(
            f"{ast.unparse(node)!r} is not allowed in the expression {text!r}; functions: {allowed}; attributes: {', '.join(sorted(ATTRIBUTES))}"
        )
    for part in parts:
        _check(part, text)


def _evaluate(node: ast.expr, scope: Mapping[str, Any]) -> Any:
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Name):
        if node.id not in scope:
            raise ExpressionError(f"unknown name {node.id!r}; known: {', '.join(sorted(scope))}")
        return scope[node.id]
    if isinstance(node, ast.Attribute):
        return _attribute(_evaluate(node.value, scope), node.attr)
    if isinstance(node, ast.BinOp):
        return _BINARY[type(node.op)](_evaluate(node.left, scope), _evaluate(node.right, scope))
    if isinstance(node, ast.UnaryOp):
        return _UNARY[type(node.op)](_evaluate(node.operand, scope))
    if isinstance(node, ast.BoolOp):
        stop_at = isinstance(node.op, ast.Or)
        result: Any = not stop_at
        for part in node.values:
            result = _evaluate(part, scope)
            if bool(result) is stop_at:
                return result
        return result
    if isinstance(node, ast.Compare):
        left = _evaluate(node.left, scope)
        for compare, part in zip(node.ops, node.comparators, strict=True):
            right = _evaluate(part, scope)
            if not _COMPARE[type(compare)](left, right):
                return False
            left = right
        return True
    if isinstance(node, ast.IfExp):
        return _evaluate(node.body if _evaluate(node.test, scope) else node.orelse, scope)
    if isinstance(node, ast.Subscript):
        return _evaluate(node.value, scope)[_evaluate(node.slice, scope)]
    if isinstance(node, ast.Slice):
        return slice(*(None if part is None else _evaluate(part, scope) for part in (node.lower, node.upper, node.step)))
    if isinstance(node, ast.Tuple | ast.List):
        return tuple(_evaluate(item, scope) for item in node.elts)
    assert isinstance(node, ast.Call) and isinstance(node.func, ast.Name)  # `_check` let nothing else through
    return FUNCTIONS[node.func.id](*(_evaluate(argument, scope) for argument in node.args))


def _attribute(value: Any, name: str) -> Any:
    if isinstance(value, TensorSpec):
        return getattr(value, name)
    if isinstance(value, Mapping):
        if name not in value:
            raise ExpressionError(f"unknown limit {name!r}; known: {', '.join(sorted(value))}")
        return value[name]
    raise ExpressionError(f"{value!r} has no attribute {name!r}: not a tensor")
