"""What starting and timing work costs."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import torch

from evaluation.device_facts import kernels
from evaluation.device_facts.groups import Arm, Group, Setting

_CALLS = 300
_NODES = 100


def overheads(setting: Setting) -> Sequence[Arm]:
    """Return host times of one call each (the queue never fills: 300 calls a sample), and device times of nodes and events."""
    x, y = setting.random(32), setting.random(32)
    z = torch.empty_like(x)
    bound = kernels.nothing[(1,)]

    def nothing() -> object:
        return kernels.nothing[(1,)](x, y, z, 32, num_warps=1)

    arms = [
        Arm("eager add of 32 elements", "host us", nothing, sample=_host(lambda: torch.add(x, y, out=z))),
        Arm("empty Triton kernel, 4 arguments", "host us", nothing, sample=_host(nothing)),
        Arm("the same, grid bound once", "host us", nothing, sample=_host(lambda: bound(x, y, z, 32, num_warps=1))),
    ]
    return [*arms, *_recorded(nothing)] if setting.device.startswith("cuda") else arms


def _recorded(nothing: Callable[[], object]) -> Sequence[Arm]:
    event = torch.cuda.Event(enable_timing=True)
    graphs: dict[int, torch.cuda.CUDAGraph] = {}

    def replay(nodes: int) -> object:
        if nodes not in graphs:
            nothing()
            torch.cuda.synchronize()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                for _ in range(nodes):
                    nothing()
            graphs[nodes] = graph
        return graphs[nodes].replay()

    def idle() -> float:
        torch.cuda.synchronize()
        began = time.perf_counter()
        torch.cuda.synchronize()
        return (time.perf_counter() - began) * 1e6

    return [
        Arm("replay of a CUDA graph of 1 kernel", "host us", lambda: replay(1), sample=_host(lambda: replay(1), calls=100)),
        Arm(
            "CUDA graph of 100 empty kernels, each", "us", lambda: replay(_NODES), sample=lambda: _between(lambda: replay(_NODES)) / _NODES
        ),
        Arm("two events with nothing between", "us", nothing, sample=lambda: _between(lambda: None)),
        Arm("two events around one empty kernel", "us", nothing, sample=lambda: _between(nothing)),
        Arm("recording an event", "host us", nothing, sample=_host(event.record)),
        Arm("synchronising an idle device", "host us", nothing, sample=idle),
        Arm("empty kernel and synchronising", "host us", nothing, sample=_host(lambda: (nothing(), torch.cuda.synchronize()), calls=30)),
    ]


def _host(call: Callable[[], object], calls: int = _CALLS) -> Callable[[], float]:
    """Return how to sample the host time of one call, in microseconds."""

    def sample() -> float:
        began = time.perf_counter()
        for _ in range(calls):
            call()
        spent = time.perf_counter() - began
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return spent / calls * 1e6

    return sample


def _between(call: Callable[[], object]) -> float:
    """Return the time between two events around a call, in microseconds, after work that lets the host run ahead."""
    first, second = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    torch.cuda.synchronize()
    torch.cuda._sleep(200_000)
    first.record()
    call()
    second.record()
    second.synchronize()
    return float(first.elapsed_time(second)) * 1e3


GROUPS = (
    Group("overheads", "Overheads of launches, graphs and events", "Host times by the monotonic clock, device times by events.", overheads),
)
