"""Figures that follow from others: totals, rates, and rates against the target's peaks. The arithmetic stands in each figure's source."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

from tools.profiling.types import Figure, Group, KernelProfile, Profile

Value = Callable[[str], float | None]

_FLOPS = {
    "thread_fadd": 1,
    "thread_fmul": 1,
    "thread_ffma": 2,
    "thread_hadd": 2,
    "thread_hmul": 2,
    "thread_hfma": 4,
    "thread_dadd": 1,
    "thread_dmul": 1,
    "thread_dfma": 2,
}
"""Operations of one thread instruction; half-precision ones work on pairs. Matrix instructions are not among them."""


def with_derived(profile: Profile) -> Profile:
    """Return the profile with derived figures; those that a tool stated itself are left alone."""
    return dataclasses.replace(profile, kernels=tuple(_derived(kernel) for kernel in profile.kernels))


def against_peaks(profile: Profile, limits: Mapping[str, float], target: str) -> Profile:
    """Return the profile with achieved rates as fractions of a target's peaks.

    Args:
        limits: Of the target, by name, as its document states them.
        target: Its name, for the source.
    """
    kernels = []
    for kernel in profile.kernels:
        found = list(kernel.figures)
        for rate, limit, scale, name in (
            ("dram_gb_per_s", "dram_gb_per_s", 1.0, "dram_of_peak_fraction"),
            ("l2_gb_per_s", "l2_gb_per_s", 1.0, "l2_of_peak_fraction"),
            ("vector_flops_per_s", "flops_per_s_float32", 1.0, "float32_of_peak_fraction"),
        ):
            achieved, peak = kernel.value(rate), limits.get(limit)
            if achieved is not None and peak:
                evidence = next(figure.evidence for figure in kernel.figures if figure.name == rate)
                found.append(
                    Figure(
                        name, achieved / (peak * scale), "fraction", f"derived: {rate} / {peak:g} ({limit} of {target})", "rate", evidence
                    )
                )
        kernels.append(dataclasses.replace(kernel, figures=tuple(found)))
    return dataclasses.replace(profile, target=profile.target or target, kernels=tuple(kernels))


def _derived(kernel: KernelProfile) -> KernelProfile:
    figures = list(kernel.figures)
    known = {figure.name: figure for figure in reversed(figures)}

    def add(name: str, value: float | None, unit: str, group: Group, formula: str, *parts: str) -> None:
        if value is not None and name not in known:
            evidence = next((known[part].evidence for part in parts if part in known), None)
            if evidence is not None:
                known[name] = Figure(name, value, unit, f"derived: {formula}", group, evidence)
                figures.append(known[name])

    def get(name: str) -> float | None:
        return known[name].value if name in known else None

    _traffic(get, add)
    _ratios(get, add)
    _rates(get, add, kernel)
    return dataclasses.replace(kernel, figures=tuple(figures))


Add = Callable[..., None]


def _traffic(get: Value, add: Add) -> None:
    add(
        "dram_bytes",
        _sum(get("dram_read_bytes"), get("dram_write_bytes")),
        "bytes",
        "traffic",
        "dram_read_bytes + dram_write_bytes",
        "dram_read_bytes",
    )
    add("shared_per_block_bytes", _sum(get("dynamic_shared_per_block_bytes"), get("static_shared_per_block_bytes")), "bytes", "resource", "dynamic + static", "dynamic_shared_per_block_bytes")  # fmt: skip
    for what in ("bank_conflicts", "wavefronts"):
        add(
            f"shared_{what}",
            _sum(get(f"shared_load_{what}"), get(f"shared_store_{what}")),
            "1",
            "traffic",
            "loads + stores",
            f"shared_load_{what}",
        )
    flops = [(name, count, value) for name, count in _FLOPS.items() if (value := get(name)) is not None]
    if flops:
        formula = " + ".join(f"{count} × {name}" for name, count, _ in flops)
        add("vector_flops", sum(count * value for _, count, value in flops), "1", "rate", formula, flops[0][0])


def _ratios(get: Value, add: Add) -> None:
    for kind in ("load", "store"):
        add(f"sectors_per_{kind}_request", _ratio(get(f"global_{kind}_sectors"), get(f"global_{kind}_requests")), "1", "traffic", f"global_{kind}_sectors / global_{kind}_requests", f"global_{kind}_sectors")  # fmt: skip
    add("bank_conflict_fraction", _ratio(get("shared_bank_conflicts"), get("shared_wavefronts")), "fraction", "traffic", "shared_bank_conflicts / shared_wavefronts", "shared_bank_conflicts")  # fmt: skip
    low, high = get("active_cycles_min"), get("active_cycles_max")
    add("imbalance_fraction", 1.0 - low / high if low is not None and high else None, "fraction", "occupancy", "1 - active_cycles_min / active_cycles_max", "active_cycles_max")  # fmt: skip


def _rates(get: Value, add: Add, kernel: KernelProfile) -> None:
    time_us = get("device_time_us")
    if not time_us:
        return
    if kernel.launches:
        add("mean_launch_us", time_us / kernel.launches, "us", "time", "device_time_us / launches", "device_time_us")
    for level in ("dram", "l2", "l1"):
        moved = get(f"{level}_bytes")
        add(
            f"{level}_gb_per_s",
            None if moved is None else moved / time_us / 1e3,
            "GB/s",
            "rate",
            f"{level}_bytes / device_time_us",
            f"{level}_bytes",
        )
    flops = get("vector_flops")
    add(
        "vector_flops_per_s",
        None if flops is None else flops / time_us * 1e6,
        "FLOP/s",
        "rate",
        "vector_flops / device_time_us",
        "vector_flops",
    )
    add("flops_per_byte", _ratio(flops, get("dram_bytes")), "FLOP/B", "rate", "vector_flops / dram_bytes", "vector_flops")


def _sum(left: float | None, right: float | None) -> float | None:
    return None if left is None or right is None else left + right


def _ratio(top: float | None, bottom: float | None) -> float | None:
    return None if top is None or not bottom else top / bottom
