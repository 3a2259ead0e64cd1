"""A profile without running: what the compiler's report says, and what the MTIA model estimates. Never mixed with what was measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from tools.profiling.types import Figure, Group, KernelProfile, Missing, PassRecord, Profile
from tools.targets.base import CompileReport, KernelResources, LaunchRecord, TimeEstimate
from tools.types import Evidence

_RESOURCES: tuple[tuple[str, str, str, Group], ...] = (
    ("registers", "registers_per_thread", "1", "resource"),
    ("spill_bytes", "spill_bytes", "bytes", "resource"),
    ("shared_bytes", "shared_per_block_bytes", "bytes", "resource"),
    ("num_warps", "num_warps", "1", "resource"),
    ("occupancy_fraction", "occupancy_limit_fraction", "fraction", "occupancy"),
    ("load_vector_bytes", "widest_load_bytes", "bytes", "instruction"),
    ("narrowest_load_bytes", "narrowest_load_bytes", "bytes", "instruction"),
    ("binary_bytes", "binary_bytes", "bytes", "resource"),
)


def profile_of_report(report: CompileReport) -> Profile:
    """Return what a compile report shows of each kernel: registers, spills, shared memory, occupancy and its limiter, matrix units, width of loads, grid; times of a model
    where the target has one (evidence `simulated`)."""
    launches = _by_kernel(report.launches)
    kernels = [_kernel(resources, launches.get(resources.kernel, ())) for resources in report.kernels]
    kernels += [_estimated(estimate) for estimate in report.estimates]
    missing = (
        [Missing("running times", "no_device", "the kernels were compiled and not run")] if report.kernels and not report.estimates else []
    )
    if report.status != "compiled" and not kernels:
        missing.append(Missing("compile", "failed" if report.status == "error" else "timeout" if report.status == "timeout" else "empty", report.error or "no kernel is launched"))  # fmt: skip
    versions = ", ".join(f"{name} {version}" for name, version in sorted(report.versions.items()))
    status = "collected" if report.status == "compiled" else "failed"
    record = PassRecord(
        "compile", f"compiler ({versions})" if versions else "compiler", "collected" if status == "collected" else "failed", report.seconds
    )
    return Profile(target=report.target, passes=(record,), kernels=tuple(kernels), missing=tuple(missing))


def _by_kernel(launches: Sequence[LaunchRecord]) -> dict[str, list[LaunchRecord]]:
    found: dict[str, list[LaunchRecord]] = {}
    for launch in launches:
        found.setdefault(launch.kernel, []).append(launch)
    return found


def _kernel(resources: KernelResources, launches: Sequence[LaunchRecord]) -> KernelProfile:
    figures = []
    for field, name, unit, group in _RESOURCES:
        value = getattr(resources, field)
        if value is not None:
            figures.append(Figure(name, float(value), unit, f"compiled binary: {field}", group, Evidence.COMPILED))
    figures.append(
        Figure(
            "num_matrix_kinds",
            float(len(resources.mma)),
            "1",
            f"compiled binary: {', '.join(resources.mma) or 'no matrix instruction'}",
            "instruction",
            Evidence.COMPILED,
        )
    )
    if launches:
        most = max(launch.programs for launch in launches)
        figures.append(Figure("programs", float(most), "1", "launch record: grid", "resource", Evidence.COMPILED))
        figures.append(Figure("distinct_launches", float(len(launches)), "1", "launch record", "other", Evidence.COMPILED))
    return KernelProfile(
        name=resources.kernel, figures=tuple(figures), limiter=resources.limiter, remarks=(resources.specialisation[:400],)
    )


def _estimated(estimate: TimeEstimate) -> KernelProfile:
    return KernelProfile(
        name=estimate.kernel,
        launches=1,
        figures=tuple(_estimate_figures(estimate)),
        remarks=(f"bound by {estimate.bound_by} (model); {estimate.low_us:.4g} to {estimate.high_us:.4g} µs",),
    )


def _estimate_figures(estimate: TimeEstimate) -> Iterator[Figure]:
    yield Figure("device_time_us", estimate.value_us, "us", "MTIA model", "time", Evidence.SIMULATED)
    yield Figure("device_time_low_us", estimate.low_us, "us", "MTIA model, constants at their favourable end", "time", Evidence.SIMULATED)
    yield Figure(
        "device_time_high_us", estimate.high_us, "us", "MTIA model, constants at their unfavourable end", "time", Evidence.SIMULATED
    )
    yield from _counters(estimate.counters)


def _counters(counters: Mapping[str, float]) -> Iterator[Figure]:
    for name, value in counters.items():
        if name.endswith("_utilisation"):
            yield Figure(
                f"{name.removesuffix('_utilisation')}_busy_fraction", value, "fraction", f"MTIA model {name}", "rate", Evidence.SIMULATED
            )
        elif name.endswith("_bytes"):
            yield Figure(name, value, "bytes", f"MTIA model {name}", "traffic", Evidence.SIMULATED)
        elif name == "stall_fraction":
            yield Figure("stall_fraction", value, "fraction", f"MTIA model {name}", "stall", Evidence.SIMULATED)
        else:
            yield Figure(name, value, "1", f"MTIA model {name}", "occupancy", Evidence.SIMULATED)
