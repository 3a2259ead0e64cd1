"""From the clocks that marked variants read to region times: held against the base, each region's share of its programs' cycles, and whether the parts add up."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tools.profiling.clocks import Marked, Place
from tools.profiling.merge import bare_name
from tools.profiling.types import Figure, Missing, PassRecord, Profile, Region

DISTURBANCE = 0.05
"""A pass is rejected when its marks change the time of a call by more than this share (or three times the noise, if that is more)."""
SUM_BOUND = 0.05
"""The regions of a kernel's body, each from a pass of its own, should add up to the kernel within this share."""


def clock_profile(
    target: str, found: Sequence[Marked], measured: Mapping[str, Any], before: Sequence[Profile] = ()
) -> Profile:  # Any: JSON of time_variants.py
    """Return the regions between clock marks.

    Args:
        measured: `samples_us`, `failed` and `clocks` (variant to cycles `spent` and `whole`, summed over programs, a value for each call); variants are named
            `clocks0`, `clocks1`, … in the order of `found`.
        before: Profiles of the unmodified candidate, for the share of each of its kernels.
    """
    samples, failed, clocks = measured["samples_us"], measured["failed"], measured.get("clocks", {})
    base = statistics.median([*samples["base"], *samples["again"]])
    noise = abs(statistics.median(samples["base"]) - statistics.median(samples["again"]))
    bound = max(DISTURBANCE * base, 3 * noise)
    shares: dict[Place, float] = {}
    missing: list[Missing] = []
    for index, marked in enumerate(found):
        name = f"clocks{index}"
        what = f"clocks {marked.kernel} {marked.place.label if marked.place else 'as a whole'}"
        if name not in clocks or name not in samples:
            missing.append(Missing(what, "failed", failed.get(name, "the variant was not run")))
            continue
        changed = statistics.median(samples[name])
        if abs(changed - base) > bound:
            missing.append(Missing(what, "rejected", f"with marks a call takes {changed:.4g} µs, without {base:.4g} µs: more than {bound:.3g} µs apart"))  # fmt: skip
            continue
        if marked.place is not None and (share := _share(clocks[name])) is not None:
            shares[marked.place] = share
    parts = _kernel_parts([marked.kernel for marked in found], before)
    regions = tuple(_region(place, share, base, parts.get(place.kernel)) for place, share in shares.items())
    host = (Figure("clocks_base_us", base, "us", "multi-pass: median of the unmodified call", "time"), *_sums(found, shares))
    detail = f"base {base:.4g} µs, noise {noise:.3g} µs, passes beyond {bound:.3g} µs rejected; one region marked in each pass"
    record = PassRecord("clocks", f"multi-pass, {len(found)} marked variants", "partial" if missing else "collected", detail=detail)
    return Profile(target=target, passes=(record,), host=host, regions=regions, missing=tuple(missing))


def _share(clocks: Mapping[str, Any]) -> float | None:  # Any: JSON
    shares = [spent / whole for spent, whole in zip(clocks["spent"], clocks["whole"], strict=True) if whole > 0]
    return statistics.median(shares) if shares else None


def _region(place: Place, share: float, base: float, part: float | None) -> Region:
    path = (place.kernel, *(f"in loop {'.'.join(str(index) for index in place.block)}" for _ in place.block[:1]), place.label)
    if part is None:
        time = Figure("cycle_share", share, "fraction", "multi-pass clocks: cycles between marks / cycles of the program", "time")
    else:
        time = Figure(
            "time_us",
            share * part * base,
            "us",
            "multi-pass clocks: cycles between marks / cycles of the program × time of the kernel",
            "time",
        )
    return Region(place.label, path, place.kernel, time, share, (place.line, place.end_line))


def _sums(found: Sequence[Marked], shares: Mapping[Place, float]) -> Iterator[Figure]:
    """Yield, for each kernel of which every outer region was measured, the sum of their shares: 1 if the passes agree with each other."""
    for kernel in dict.fromkeys(marked.kernel for marked in found):
        outer = [marked.place for marked in found if marked.place is not None and marked.place.is_outer and marked.kernel == kernel]
        if outer and all(place in shares for place in outer):
            total = sum(shares[place] for place in outer)
            yield Figure("clocks_sum_fraction", total, "fraction", f"multi-pass clocks of {kernel}: sum over {len(outer)} passes", "time")


def _kernel_parts(kernels: Sequence[str], before: Sequence[Profile]) -> dict[str, float]:
    """Return the share of each kernel in a call's device time; a kernel that is alone has all of it."""
    names = set(kernels)
    for profile in before:
        times = {bare_name(kernel.name): kernel.time_us for kernel in profile.kernels if kernel.kind == "kernel" and kernel.launches}
        total = sum(times.values())
        if total:
            return {name: times[name] / total for name in names if name in times}
    return dict.fromkeys(names, 1.0) if len(names) == 1 else {}
