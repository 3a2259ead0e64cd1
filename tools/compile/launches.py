"""Catch every Triton launch of host code, without a device: compile the kernel for the target instead of running it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

MAX_CONFIGS = 16
"""Configurations of an autotuned kernel that are compiled, in the order given."""
MAX_ALIKE = 8
"""Launches that differ in whole numbers alone (a loop's counter) and are recorded, in the order given."""


@dataclass(frozen=True)
class Launch:
    """One launch with what it passes: enough to compile the kernel again, and to tell rules what its parameters are."""

    kernel: str
    arguments: Mapping[str, Any]  # Any: JSON; tensors as {dtype, shape, stride}, constexprs and scalars as they are
    constexprs: frozenset[str]
    options: Mapping[str, Any]  # Any: num_warps and the like, as passed
    grid: tuple[int, ...]
    compiled: Any = field(repr=False, default=None)  # Any: triton's CompiledKernel
    error: BaseException | None = field(repr=False, default=None)
    """Why the kernel did not compile; None if it did."""
    is_tuned: bool = False
    """True for one of several configurations of an autotuned kernel: at the launch only the best survives."""


@contextlib.contextmanager
def record_launches(*, compiles: bool = True) -> Iterator[Recorder]:
    """Within the context, launches compile and are recorded; nothing runs, and outputs keep what they had.

    With `compiles` False they are only recorded. Expects a driver that names the target (`device.stand_in`). Each different launch of a kernel is recorded once,
    of launches that differ in whole numbers alone the first `MAX_ALIKE`.
    """
    from triton.runtime.autotuner import Autotuner
    from triton.runtime.jit import JITFunction

    launch_run, tune_run = JITFunction.run, Autotuner.run
    recorder = Recorder(launch_run if compiles else _skip)

    def run(function: Any, *arguments: Any, grid: Any, warmup: bool, **options: Any) -> Any:  # Any: the launch's own values
        return recorder.launch(function, arguments, grid, options)

    def tune(tuner: Any, *arguments: Any, **options: Any) -> Any:  # Any: the launch's own values
        return recorder.tune(tuner, arguments, options)

    JITFunction.run, Autotuner.run = run, tune
    try:
        yield recorder
    finally:
        JITFunction.run, Autotuner.run = launch_run, tune_run


class Recorder:
    """Collects the launches of host code."""

    def __init__(self, compile_launch: Callable[..., Any]) -> None:
        self._compile = compile_launch
        self._seen: set[str] = set()
        self._alike: dict[str, int] = {}
        self._tuning = False
        self._launches: list[Launch] = []

    def start(self, launches: list[Launch]) -> None:
        """Record into a list from now on, beginning with an empty one."""
        launches.clear()
        self._launches = launches
        self._seen.clear()
        self._alike.clear()
        self._tuning = False

    def tune(self, tuner: Any, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
        tuner.nargs = dict(zip(tuner.arg_names, arguments, strict=False))
        configs = list(tuner.prune_configs(options))[:MAX_CONFIGS] if len(tuner.configs) > 1 else tuner.configs
        outer, self._tuning = self._tuning, self._tuning or len(configs) > 1
        result = None
        for config in configs:
            if config.pre_hook is not None:
                config.pre_hook({**tuner.nargs, **config.all_kwargs()})
            result = tuner.fn.run(*arguments, **{**options, **config.all_kwargs()})
        self._tuning = outer
        tuner.nargs = None
        return result

    def launch(self, function: Any, arguments: tuple[Any, ...], grid: Any, options: dict[str, Any]) -> Any:
        names = {parameter.name for parameter in function.params}
        bound = self._bound(function, arguments, {name: value for name, value in options.items() if name in names})
        described = {name: describe(value) for name, value in bound.items()}
        extra = {name: value for name, value in options.items() if name not in names}
        key = repr((function.fn.__name__, described, sorted(extra.items(), key=str)))
        if key in self._seen:
            return None
        self._seen.add(key)
        constexprs = frozenset(parameter.name for parameter in function.params if parameter.is_constexpr)
        alike = repr((function.fn.__name__, _without_counts(described, constexprs), sorted(extra.items(), key=str)))
        self._alike[alike] = self._alike.get(alike, 0) + 1
        if self._alike[alike] > MAX_ALIKE:
            return None
        compiled, error = None, None
        try:
            mocked = {name: _mock(value) for name, value in options.items()}
            compiled = self._compile(function, *(_mock(value) for value in arguments), grid=grid, warmup=True, **mocked)
        except Exception as raised:  # the compiler meets the candidate's code here: whatever it raises is the candidate's
            error = raised
        self._launches.append(
            Launch(function.fn.__name__, described, constexprs, extra, _extent(grid, bound), compiled, error, self._tuning)
        )
        if error is not None and not self._tuning:
            raise LaunchError(function.fn.__name__) from error
        return compiled

    @staticmethod
    def _bound(function: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> dict[str, Any]:
        bound = function.signature.bind(*arguments, **named)
        bound.apply_defaults()
        return dict(bound.arguments)


class LaunchError(Exception):
    """A kernel did not compile; the reason is in the recorded launch and in `__cause__`."""


def describe(value: Any) -> Any:  # Any: a launch's argument, and JSON
    """Return an argument as JSON: tensors as dtype, shape and stride, tuples as lists, dtypes and functions by name."""
    if hasattr(value, "dtype") and hasattr(value, "stride") and hasattr(value, "shape"):
        return {
            "dtype": str(value.dtype).removeprefix("torch."),
            "shape": [int(extent) for extent in value.shape],
            "stride": [int(step) for step in value.stride()],
        }
    if hasattr(value, "block_shape") and hasattr(value, "base"):
        return {"descriptor": describe(value.base), "block_shape": list(value.block_shape)}
    if isinstance(value, tuple | list):
        return [describe(item) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return str(getattr(value, "__name__", value))


def _without_counts(described: Mapping[str, Any], constexprs: frozenset[str]) -> dict[str, Any]:  # Any: JSON
    """Return arguments with whole numbers that are no constants of the kernel left open."""
    return {name: "int" if type(value) is int and name not in constexprs else value for name, value in described.items()}


def plain(options: Mapping[str, Any]) -> dict[str, Any]:  # Any: JSON
    """Return launch options as JSON."""
    return {name: describe(value) for name, value in options.items()}


def _skip(function: Any, *arguments: Any, grid: Any, warmup: bool, **options: Any) -> None:  # Any: the launch's own values
    """Stand in for compiling where launches are only recorded."""


def _mock(value: Any) -> Any:
    import torch
    from triton.runtime.jit import MockTensor

    if isinstance(value, torch.Tensor):
        return MockTensor(value.dtype, list(value.shape))
    if isinstance(value, tuple) and not hasattr(value, "_fields"):
        return tuple(_mock(item) for item in value)
    return value


def _extent(grid: Any, bound: Mapping[str, Any]) -> tuple[int, ...]:
    extent = grid(dict(bound)) if callable(grid) else grid
    return tuple(int(size) for size in extent)
