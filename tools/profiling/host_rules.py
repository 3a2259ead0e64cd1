"""Causes that lie in the program around the kernels: launches, copies, operators of the host."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tools.profiling.causes import Cause
from tools.profiling.types import KernelProfile, Profile

LONG_KERNEL_US = 15.0
"""Kernels of at least this length outlast a launch, which costs 5 to 10 µs (torch.profiler adds to it)."""

SEEN_FRACTION = 0.1
"""Share of the host's time below which its operators say nothing about where the time goes."""


def host_causes(profile: Profile) -> Iterator[Cause]:
    """Yield launch overhead, copies, and what host operators cost."""
    span, idle, busy = (profile.host_value(f"device_{name}_us") for name in ("span", "idle", "busy"))
    kernels = [kernel for kernel in profile.kernels if kernel.kind == "kernel" and kernel.launches]
    launches = sum(kernel.launches for kernel in kernels)
    mean = (busy or 0.0) / max(launches, 1)
    # a long kernel hides its successor's launch: gaps around it are the profiler's, or the program's between its calls
    if span and idle is not None and idle / span > 0.3 and launches > 1 and mean < LONG_KERNEL_US:
        evidence = (f"device_idle_us = {idle:.6g} of device_span_us = {span:.6g}", f"{launches} launches of {mean:.3g} µs on average")
        yield Cause(
            "launch_bound",
            f"The device waits {idle / span:.0%} of the time for the host to launch work.",
            evidence,
            idle / span,
            "",
            ("reduce launch overhead: fuse kernels, CUDA graphs",),
        )
    elif launches and not span and all(kernel.time_us / kernel.launches < 5 for kernel in kernels) and profile.device_time_us:
        yield Cause("launch_bound", "Every kernel is shorter than the 5 to 10 µs that a launch costs.", (f"{launches} launches, {profile.device_time_us / launches:.3g} µs on average",), 0.6, "", ("reduce launch overhead: fuse kernels, CUDA graphs",))  # fmt: skip
    copies = [kernel for kernel in profile.kernels if kernel.kind == "copy"]
    copied = sum(kernel.time_us for kernel in copies)
    if copied and copied / max(profile.device_time_us, 1e-9) > 0.25:
        yield Cause(
            "host_copies",
            f"{copied / profile.device_time_us:.0%} of the device time are copies and fills.",
            _times(copies),
            copied / profile.device_time_us,
            "",
            ("avoid host-device copies",),
        )
    yield from _operator_causes(profile)


def _operator_causes(profile: Profile) -> Iterator[Cause]:
    """Yield causes of programs that run on the host: there operators are the work."""
    operators = [kernel for kernel in profile.kernels if kernel.kind == "operator"]
    total = sum(kernel.time_us for kernel in operators)
    if not total or profile.device_time_us:
        return
    busy = profile.host_value("host_busy_us") or 0.0
    if total < SEEN_FRACTION * busy:
        evidence = (f"host_busy_us = {busy:.6g}", f"{total:.5g} µs in PyTorch's operators")
        yield Cause("own_code", f"PyTorch's operators take {total / busy:.1%} of the time; the rest is the candidate's own code, which only `perf` sees into.", evidence, 1 - total / busy, "", ("faster loops of a C++ kernel on the CPU",))  # fmt: skip
        return
    moved = [
        kernel
        for kernel in operators
        if kernel.name in ("aten::copy_", "aten::contiguous", "aten::clone", "aten::_to_copy", "aten::cat", "aten::fill_", "aten::zero_")
    ]
    share = sum(kernel.time_us for kernel in moved) / total
    if share > 0.2:
        yield Cause(
            "layout_copies",
            f"{share:.0%} of the operators' time goes into copying and converting.",
            _times(moved),
            share,
            "",
            ("avoid copies between layouts and dtypes",),
        )
    calls = sum(kernel.launches for kernel in operators)
    if calls and total / calls < 3.0 and calls / max(profile.num_calls, 1) > 10:
        yield Cause(
            "many_operators",
            f"{calls:,} operators of {total / calls:.2g} µs on average: dispatch costs more than work.",
            _times(operators[:3]),
            0.5,
            "",
            ("fuse pointwise operators on the CPU",),
        )
    top = operators[0]
    if top.time_us / total > 0.5 and top not in moved:
        yield Cause("dominant_operator", f"`{top.name}` takes {top.time_us / total:.0%} of the operators' time.", _times([top]), 0.4 * top.time_us / total, top.name, (f"faster {top.name.removeprefix('aten::')} on the CPU",))  # fmt: skip


def _times(kernels: Sequence[KernelProfile]) -> tuple[str, ...]:
    return tuple(
        f"{kernel.name}: {kernel.time_us:.5g} µs in {kernel.launches} calls"
        for kernel in sorted(kernels, key=lambda item: -item.time_us)[:4]
    )
