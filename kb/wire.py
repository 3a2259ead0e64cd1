"""Our dataclasses to JSON and back, by their type hints: what the HTTP server sends and the client reads. Every float survives exactly."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Mapping
from enum import Enum
from functools import cache
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

_Value = TypeVar("_Value")


def encode(value: Any) -> Any:  # Any: a dataclass, or what its fields hold; JSON out
    """Return a JSON-ready copy of a dataclass, enum, mapping, sequence or plain value."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: encode(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return {str(key): encode(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [encode(item) for item in value]
    return value


def decode(kind: type[_Value], data: Any) -> _Value:  # Any: JSON
    """Return the dataclass of this type that `encode` made the data of; fields that it does not know are left out.

    Raises:
        ValueError: The data is not of this type.
    """
    try:
        return _decode(kind, data)  # type: ignore[no-any-return]  # built by type hints
    except (TypeError, KeyError, AttributeError) as err:
        raise ValueError(f"not a {kind.__name__}: {err}") from err


def _decode(kind: Any, data: Any) -> Any:  # Any: a type hint, JSON, and what the hint says
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        hints = _hints(kind)
        return kind(**{name: _decode(hints[name], data[name]) for name in hints if name in data})
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        if data is None:
            return None
        (inner,) = (option for option in get_args(kind) if option is not type(None))
        return _decode(inner, data)
    if origin is tuple:
        return tuple(_decode(get_args(kind)[0], item) for item in data)
    if origin is list:
        return [_decode(get_args(kind)[0], item) for item in data]
    if isinstance(kind, type) and issubclass(kind, Enum):
        return kind(data)
    return data


@cache
def _hints(kind: type) -> dict[str, Any]:  # Any: type hints
    names = {field.name for field in dataclasses.fields(kind) if field.init}
    return {name: hint for name, hint in get_type_hints(kind).items() if name in names}
