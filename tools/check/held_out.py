"""Give a problem shapes that it was not written for: the integers that its input generator reads are set to primes. No torch; runs in the reference process.

KernelBench's files name their sizes in module-level constants. Where one of them shapes inputs and not the model, other values of it are a fair
question to the same weights: an odd, prime size has tails everywhere.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from types import CodeType, ModuleType
from typing import Any

_LEAST = 4
_MAX_TRIES = 8


def free_sizes(module: ModuleType) -> dict[str, Any]:  # Any: int or a tuple of ints
    """Return the module's integers, and tuples of them, that `get_inputs` or a function it calls reads by name, with other values: the next smaller primes."""
    generator = getattr(module, "get_inputs", None)
    found: dict[str, Any] = {}
    for name in sorted(_names(getattr(generator, "__code__", None), module)):
        value = getattr(module, name, None)
        other = _other(value)
        if other != value:
            found[name] = other
    return found


@contextlib.contextmanager
def changed(module: ModuleType, values: Mapping[str, Any]) -> Iterator[None]:  # Any: as in `free_sizes`
    """Set module-level names inside the context."""
    kept = {name: getattr(module, name) for name in values}
    try:
        for name, value in values.items():
            setattr(module, name, value)
        yield
    finally:
        for name, value in kept.items():
            setattr(module, name, value)


def choose(module: ModuleType, works: Callable[[], bool]) -> dict[str, Any]:  # Any: as in `free_sizes`
    """Return the largest set of changes under which `works` is true, of: all, all but one, each alone; empty if there is none.

    Args:
        module: The problem.
        works: Called with the changes in place; tells whether the problem still makes sense.
    """
    sizes = free_sizes(module)
    options = [sizes]
    if len(sizes) > 2:
        options += [{key: value for key, value in sizes.items() if key != left_out} for left_out in sizes]
    if len(sizes) > 1:
        options += [{key: value} for key, value in sizes.items()]
    for values in options[:_MAX_TRIES]:
        with changed(module, values):
            if values and works():
                return values
    return {}


def prime_below(number: int) -> int:
    """Return the largest prime below a number, at least 2."""
    return next((item for item in range(number - 1, 2, -1) if all(item % factor for factor in range(2, int(item**0.5) + 1))), 2)


def _other(value: Any) -> Any:  # Any: whatever the module holds
    if isinstance(value, int) and not isinstance(value, bool) and value >= _LEAST:
        return prime_below(value)
    if isinstance(value, tuple) and value and all(isinstance(item, int) and not isinstance(item, bool) for item in value):
        return tuple(_other(item) for item in value)
    return value


def _names(code: CodeType | None, module: ModuleType) -> set[str]:
    """Return the global names that a function reads, and those of the module's functions among them."""
    found: set[str] = set()
    waiting, seen = [code], set()
    while waiting:
        current = waiting.pop()
        if current is None or current in seen:
            continue
        seen.add(current)
        waiting += [item for item in current.co_consts if isinstance(item, CodeType)]
        for name in current.co_names:
            value = getattr(module, name, None)
            waiting.append(getattr(value, "__code__", None) if getattr(value, "__module__", "") == module.__name__ else None)
            found.add(name)
    return found
