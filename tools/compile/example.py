"""The arguments with which a kernel document's `launch` is compiled: its example plus the defaults of its tunables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tools.expressions import TensorSpec, parse


def launch_arguments(example: Mapping[str, Any], tunables: Mapping[str, Any]) -> dict[str, Any]:
    """Return the example with each tunable's default evaluated over it; an argument that the example states itself wins.

    A default over `output` or `limits`, which an example does not know, is left to `launch`'s own default.

    Raises:
        ExpressionError: A default cannot be evaluated.
    """
    names: dict[str, Any] = {name: _seen(value) for name, value in example.items()}
    found = dict(example)
    for name, tunable in tunables.items():
        if name in example:
            continue
        default = tunable.get("default") if isinstance(tunable, Mapping) else tunable
        if isinstance(default, str):
            expression = parse(default)
            if not expression.names() <= names.keys():
                continue
            default = expression.evaluate(names)
        names[name] = found[name] = default
    return found


def _seen(value: Any) -> Any:
    if isinstance(value, Mapping) and set(value) >= {"shape", "dtype"}:
        return TensorSpec(tuple(value["shape"]), str(value["dtype"]), ()).contiguous()
    return tuple(value) if isinstance(value, list) else value
