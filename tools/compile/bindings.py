"""What a recorded launch states about a kernel's parameters, as the linter's values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tools.lint.values import DTYPES, NOTHING, Value, constant
from tools.targets.base import LaunchRecord


def bindings(launch: LaunchRecord) -> dict[str, Value]:
    """Return what the launch states about each parameter of the kernel, for the linter."""
    return {name: _bound(name, value) for name, value in launch.arguments.items()}


def _bound(name: str, value: Any) -> Value:  # Any: JSON
    if isinstance(value, Mapping) and "dtype" in value:
        dtype = str(value["dtype"]) if str(value["dtype"]) in DTYPES else None
        return Value("pointer", (), dtype, traits=frozenset({f"param:{name}", "argument"}))
    if isinstance(value, list):
        return Value("tuple", items=tuple(_bound(name, item) for item in value))
    if value is None or isinstance(value, bool | int | float):
        return constant(value)
    return NOTHING
