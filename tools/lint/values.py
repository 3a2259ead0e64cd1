"""What is known at lint time about a value inside a kernel: shape, dtype, constant and where it comes from. Anything not proven is None."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Literal

Kind = Literal["unknown", "number", "pointer", "block_pointer", "descriptor", "dtype", "tuple", "undefined"]
Shape = tuple[int | None, ...]


class _Unproven:
    def __repr__(self) -> str:
        return "UNPROVEN"


UNPROVEN: Final = _Unproven()
"""Stands for a constant that is not known; None is a constant like any other."""


@dataclass(frozen=True)
class Value:
    """Facts about one value. The default knows nothing."""

    kind: Kind = "unknown"
    shape: Shape | None = None
    """`()` for a scalar; None if the rank is not known; a dimension that is not known is None."""
    dtype: str | None = None
    """Element type; for a pointer the type it points to."""
    const: object = UNPROVEN
    is_static: bool | None = None
    """True: a compile-time constant; False: only known when the kernel runs; None: not proven."""
    traits: frozenset[str] = frozenset()
    """Where it comes from: `arange`, `program_id`, `loop`, `param:NAME`, `loaded`, `undefined_lanes`, `subtracted`, `wrapped`, `base:NAME`, …"""
    items: tuple[Value, ...] = ()
    """Elements of a tuple or list; dimensions of a descriptor's block."""

    def has(self, trait: str) -> bool:
        """Tell whether a trait is among its traits."""
        return trait in self.traits

    @property
    def is_block(self) -> bool:
        """True if it is proven to be a block (not a scalar)."""
        return self.shape is not None and len(self.shape) > 0

    @property
    def is_scalar(self) -> bool:
        """True if it is proven to be a scalar."""
        return self.shape == ()

    @property
    def integer(self) -> int | None:
        """Its constant if that is a proven integer."""
        return self.const if isinstance(self.const, int) and not isinstance(self.const, bool) else None

    def plus(self, *traits: str) -> Value:
        """Return it with further traits."""
        return replace(self, traits=self.traits | set(traits))

    def without(self, *traits: str) -> Value:
        """Return it without some traits."""
        return replace(self, traits=self.traits - set(traits))


NOTHING = Value()
FLOATS = {
    "float64": 64,
    "float32": 32,
    "float16": 16,
    "bfloat16": 16,
    "float8e4nv": 8,
    "float8e5": 8,
    "float8e4b8": 8,
    "float8e5b16": 8,
    "float8e4b15": 8,
}
INTEGERS = {"int1": 1, "int8": 8, "uint8": 8, "int16": 16, "uint16": 16, "int32": 32, "uint32": 32, "int64": 64, "uint64": 64}
DTYPES = {**FLOATS, **INTEGERS}
"""Triton's dtype names to their width in bits."""
SHORT = {"float64": "fp64", "float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}
"""The names that Triton's messages use."""


def constant(value: object) -> Value:
    """Return what is known about a literal."""
    if isinstance(value, bool):
        return Value("number", (), "int1", value, True)
    if isinstance(value, int):
        return Value("number", (), "int32" if -(2**31) <= value < 2**31 else "int64", value, True)
    if isinstance(value, float):
        return Value("number", (), "float32", value, True)
    return Value(const=value, is_static=True)


def broadcast(left: Value, right: Value) -> Shape | None:
    """Return the shape of an elementwise operation, None if it is not proven."""
    if left.shape is None or right.shape is None:
        return None
    if len(left.shape) != len(right.shape) and left.shape and right.shape:
        return None
    if not left.shape or not right.shape:
        return left.shape or right.shape
    return tuple(_dimension(a, b) for a, b in zip(left.shape, right.shape, strict=True))


def _dimension(a: int | None, b: int | None) -> int | None:
    if a == 1:
        return b
    if b == 1 or a == b:
        return a
    return None if a is None or b is None else a


def promote(left: Value, right: Value, *, division: bool = False) -> str | None:
    """Return the dtype of an arithmetic operation, None if it is not proven."""
    a, b = left.dtype, right.dtype
    for literal, other in ((left, right), (right, left)):
        if literal.const is not UNPROVEN and literal.is_static and other.const is UNPROVEN:
            a = b = "float32" if isinstance(literal.const, float) and other.dtype in INTEGERS else other.dtype
    if a is None or b is None:
        return None
    if division and a in INTEGERS and b in INTEGERS:
        return "float32"
    if a == b:
        return a
    if left.is_block != right.is_block or left.shape is None or right.shape is None:
        return None
    if a in FLOATS and b in FLOATS:
        return "float64" if "float64" in (a, b) else "float32" if "float32" in (a, b) or {a, b} == {"float16", "bfloat16"} else None
    if a in FLOATS or b in FLOATS:
        return a if a in FLOATS else b
    return a if INTEGERS[a] > INTEGERS[b] else b if INTEGERS[b] > INTEGERS[a] else None


def join(left: Value, right: Value) -> Value:
    """Return what holds for a value that may come from either of two paths."""
    if left == right:
        return left
    shape = left.shape
    if left.shape != right.shape:
        same_rank = left.shape is not None and right.shape is not None and len(left.shape) == len(right.shape)
        shape = tuple(a if a == b else None for a, b in zip(left.shape or (), right.shape or (), strict=True)) if same_rank else None
    return Value(
        kind=left.kind if left.kind == right.kind else "unknown",
        shape=shape,
        dtype=left.dtype if left.dtype == right.dtype else None,
        const=left.const
        if left.const is right.const or (type(left.const) is type(right.const) and left.const == right.const)
        else UNPROVEN,
        is_static=left.is_static if left.is_static == right.is_static else None,
        traits=left.traits | right.traits,
        items=left.items if left.items == right.items else (),
    )
