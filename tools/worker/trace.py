"""What a call is made of: operators dispatched by PyTorch, Triton kernels launched, kernels seen by the profiler. Imports torch."""

from __future__ import annotations

import contextlib
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode


class OperatorTrace(TorchDispatchMode):  # type: ignore[misc]  # torch is untyped here
    """Count the ATen operators that run while it is active; `counts` maps `name.overload` to calls."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # Any: torch's own protocol
        """Count and forward."""
        self.counts[str(func)] += 1
        return func(*args, **(kwargs or {}))


def warm_up() -> None:
    """Do what a first trace does once per process (about 900 imports, 1.6 s); allocates one element, so that no thread starts."""
    import torch

    with OperatorTrace():
        torch.empty(1)


@contextlib.contextmanager
def launched_kernels(*, is_wanted: bool = True) -> Iterator[dict[str, int]]:
    """Count Triton launches by kernel name while active; empty where Triton or its hook is missing, or where they are not wanted."""
    counts: dict[str, int] = {}
    if not is_wanted:
        yield counts
        return

    def hook(metadata: Any) -> None:  # Any: triton's launch metadata
        name = str(metadata.get().get("name", "?"))
        counts[name] = counts.get(name, 0) + 1

    try:
        from triton import knobs

        chain = knobs.runtime.launch_enter_hook
        chain.add(hook)
    except (ImportError, AttributeError):
        yield counts
        return
    try:
        yield counts
    finally:
        chain.remove(hook)


@contextlib.contextmanager
def without_launches() -> Iterator[dict[str, int]]:
    """Leave out every Triton launch while active and count them in `left_out`; nothing happens where Triton is missing."""
    counts = {"left_out": 0}
    try:
        from triton.runtime.jit import JITFunction
    except ImportError:
        yield counts
        return
    launch = JITFunction.run

    def skip(self: Any, *arguments: Any, **named: Any) -> Any:  # Any: triton's own protocol
        if named.get("warmup"):
            return launch(self, *arguments, **named)
        counts["left_out"] += 1
        return None

    JITFunction.run = skip
    try:
        yield counts
    finally:
        JITFunction.run = launch


def start_profiler() -> str:
    """Start and stop the profiler once around a small kernel, so that a later trace does not pay for its first start.

    Returns:
        Why it does not work here; empty if it does.
    """
    import torch

    try:
        seen = profile_kernels(lambda: torch.ones(64, device="cuda").sum())
        torch.cuda.empty_cache()  # a candidate begins with an allocator that has handed out nothing
    except Exception as err:  # a profiler that may not be used here can fail in any way
        return f"{type(err).__name__}: {err}"[:300]
    return "" if seen else "it saw no kernel"


def profile_span(call: Callable[[], Any]) -> dict[str, float]:
    """Return for how long the device worked during a call, and from its first kernel's start to its last one's end, in ms; empty if the profiler saw nothing."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    with contextlib.suppress(RuntimeError, AttributeError):
        with profile(activities=[ProfilerActivity.CUDA]) as profiler:
            call()
            torch.cuda.synchronize()
        times = [event.time_range for event in profiler.events() if str(event.device_type).endswith("CUDA")]
        return busy_and_span([(float(item.start), float(item.end)) for item in times])
    return {}


def busy_and_span(times_us: Sequence[tuple[float, float]]) -> dict[str, float]:
    """Return the length of the union of intervals and of what encloses them, in ms; empty for none. What runs at the same time on two streams counts once."""
    if not times_us:
        return {}
    busy, end = 0.0, -math.inf
    for first, last in sorted(times_us):
        busy += max(0.0, last - max(first, end))
        end = max(end, last)
    return {"busy_ms": busy / 1000.0, "span_ms": (end - min(first for first, _ in times_us)) / 1000.0}


def profile_kernels(call: Callable[[], Any]) -> dict[str, float]:
    """Return the device time of each kernel in one call, in µs, summed by kernel name; empty if the profiler does not work here."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    times: dict[str, float] = {}
    with contextlib.suppress(RuntimeError, AttributeError):
        with profile(activities=[ProfilerActivity.CUDA]) as profiler:
            call()
            torch.cuda.synchronize()
        for event in profiler.events():
            if str(event.device_type).endswith("CUDA"):
                times[event.name] = times.get(event.name, 0.0) + float(event.time_range.elapsed_us())
    return times
