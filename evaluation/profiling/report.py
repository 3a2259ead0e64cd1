"""The report on a study of the profilers: `python -m evaluation.profiling.report RECORDS.jsonl [--planted DIR] --out report.md`. Tables from records; nothing is measured here."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from evaluation.profiling.planted_report import planted_lines
from tools.profiling.derive import with_derived
from tools.profiling.merge import merged
from tools.profiling.planted.__main__ import compiled_only
from tools.profiling.types import KernelProfile, Profile, Region

TIME_BOUNDS = {"proton": 0.05, "ncu": 0.25}
"""Share by which the time of a call may differ from torch.profiler's. Proton and torch.profiler read the same activity records of the driver; Nsight Compute runs each kernel
alone, with cold caches, after a pause."""
BYTES_BOUND = 0.1
"""Share by which the bytes that device memory moves may differ from what must be moved at least."""
SUM_BOUND = 0.05
LOCALISED = 0.7
"""A slowed region is localised if it is the one that grew most and accounts for this share of what the call lost."""
SLOWED = {"gemm_slow_end": ("gemm", "store"), "layer_norm_slow_begin": ("layer_norm", "sum"), "layer_norm_slow_end": ("layer_norm", "sqrt")}
"""Slowed case: the plain one, and the region that holds the slow place (the first of that name)."""

Record = Mapping[str, Any]  # Any: JSON


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the report."""
    parser = argparse.ArgumentParser(prog="python -m evaluation.profiling.report", description=__doc__)
    parser.add_argument(
        "records", type=Path, nargs="+", help="of one study or of several on the same device; what they say of a case is merged"
    )
    parser.add_argument("--planted", type=Path, help="folder of `python -m tools.profiling.planted --out`")
    parser.add_argument("--keep", type=Path, help="write the whole records here, without timelines and figures that have no common name")
    parser.add_argument("--out", type=Path, required=True)
    chosen = parser.parse_args(arguments)
    records = [json.loads(line) for path in chosen.records for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    if chosen.keep is not None:
        chosen.keep.parent.mkdir(parents=True, exist_ok=True)
        chosen.keep.write_text("".join(json.dumps(item) + "\n" for item in condensed(records)), encoding="utf-8")
    lines = list(report_lines(records))
    if chosen.planted is not None:
        text = (chosen.planted / "diagnoses.jsonl").read_text(encoding="utf-8")
        lines += ["", *planted_lines([json.loads(line) for line in text.splitlines() if line.strip()])]
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    chosen.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    sys.stdout.write(f"{chosen.out}\n")
    return 0


def condensed(records: Sequence[Record]) -> Iterator[Record]:
    """Yield one record for each case, its passes merged anew, without what no table is made of."""
    yield from (record for record in records if "profile" not in record)
    least = {record["name"]: record["least_bytes"] for record in records if record.get("least_bytes")}
    for part in dict.fromkeys(record["part"] for record in records if "profile" in record):
        for name, profile in profiles_of(records, part).items():
            kernels = tuple(
                dataclasses.replace(
                    kernel,
                    lines=(),
                    figures=tuple(figure for figure in kernel.figures if figure.group != "other" and "__" not in figure.name),
                )
                for kernel in profile.kernels
                if kernel.kind != "operator"
            )
            kept = dataclasses.replace(profile, kernels=kernels, timeline=None).to_json()
            yield {
                "part": part,
                "name": name,
                **({"least_bytes": least[name]} if name in least and part == "kernels" else {}),
                "profile": kept,
            }


def profiles_of(records: Sequence[Record], part: str) -> dict[str, Profile]:
    """Return the profile of each case of a part: the whole one, or, where the study was cut, what its passes left."""
    whole: dict[str, list[Profile]] = {}
    passes: dict[str, list[Profile]] = {}
    for record in records:
        if record["part"] != part or "profile" not in record:
            continue
        profile = Profile.from_json(record["profile"])
        if "pass" in record:
            passes.setdefault(record["name"], []).append(profile)
        else:
            whole.setdefault(record["name"], []).append(profile)
    return {name: _joined(whole.get(name, []), passes.get(name, [])) for name in dict.fromkeys((*whole, *passes))}


def _joined(whole: Sequence[Profile], passes: Sequence[Profile]) -> Profile:
    """Return one profile of a case: kernels from its passes where they were kept, so that they are merged by the rules of today; the rest from the whole."""
    if not whole or not passes:
        return with_derived(merged(whole or passes))
    kernels = merged([*passes, *(compiled_only(profile) for profile in whole)]).kernels
    return with_derived(dataclasses.replace(merged(whole), kernels=kernels))


def report_lines(records: Sequence[Record]) -> Iterator[str]:
    """Yield the report."""
    machine = next((record for record in records if record["part"] == "machine"), {})
    calls = int(machine.get("calls", 1))
    yield "# Profilers over our kernels"
    yield ""
    yield f"{machine.get('device', 'device unknown')}, torch {machine.get('torch', '?')}, triton {machine.get('triton', '?')}. Programs were prepared together and measured one by one. A profile explains; none of these times is a score."
    least = {record["name"]: record.get("least_bytes") for record in records if record["part"] == "kernels" and "least_bytes" in record}
    kernels = profiles_of(records, "kernels")
    if kernels:
        yield from ("", "## Eight kernels, every tool", "")
        yield from _times(kernels, calls)
        yield from _bytes(kernels, least, calls)
        yield from _failures(kernels)
    regions = profiles_of(records, "regions")
    if regions or kernels:
        yield from ("", "## Regions inside kernels", "")
        yield from _sums({**kernels, **{f"{name} (study)": profile for name, profile in regions.items()}})
        yield from _slowed(regions)
    routes = profiles_of(records, "conv1d")
    if routes:
        yield from ("", "## The convolution and its routes", "")
        yield from _routes(routes, calls)
    for record in records:
        if record["part"] == "confined":
            detail = "; ".join(item["detail"] for item in record["profile"]["passes"])
            yield from ("", "## Confinement", "", f"torch.profiler on {record['name']} as `kevolve profile` runs it: {detail}")


def by_tool(kernel: KernelProfile, name: str, tool: str) -> float | None:
    """Return a measured figure of one tool."""
    return next((figure.value for figure in kernel.figures if figure.name == name and figure.source.startswith(tool)), None)


def time_of(profile: Profile, tool: str, calls: int) -> float | None:
    """Return the device time of a call by a tool, in µs: None unless it saw every kernel that torch.profiler saw."""
    kernels = [kernel for kernel in profile.kernels if kernel.kind == "kernel" and kernel.launches]
    times = [by_tool(kernel, "device_time_us", tool) for kernel in kernels]
    known = [time for time in times if time is not None]
    return sum(known) / calls if known and len(known) == len(times) else None


def _times(kernels: Mapping[str, Profile], calls: int) -> Iterator[str]:
    yield f"Device time of a call, in µs. Bound on the difference to torch.profiler: Proton {TIME_BOUNDS['proton']:.0%}, Nsight Compute {TIME_BOUNDS['ncu']:.0%}; the multi-pass base is the time between device events around {calls} calls, launches included."
    yield ""
    yield "| kernel | launches a call | torch.profiler | Proton | Nsight Compute | multi-pass base | Proton differs | ncu differs |"
    yield "|---|---|---|---|---|---|---|---|"
    for name, profile in kernels.items():
        torch, proton, ncu = (time_of(profile, tool, calls) for tool in ("torch.profiler", "proton", "ncu"))
        launches = sum(kernel.launches for kernel in profile.kernels if kernel.kind == "kernel") / calls
        yield f"| {name} | {launches:g} | {_us(torch)} | {_us(proton)} | {_us(ncu)} | {_us(profile.host_value('regions_base_us'))} | {_apart(proton, torch, TIME_BOUNDS['proton'])} | {_apart(ncu, torch, TIME_BOUNDS['ncu'])} |"
    yield ""
    yield "Where Nsight Compute differs: it flushes the caches before each replay, so kernels whose data fits the 50 MB L2 take longer under it, and it runs each kernel after an idle pause, at other clocks than a busy program."
    yield ""


def _bytes(kernels: Mapping[str, Profile], least: Mapping[str, Any], calls: int) -> Iterator[str]:  # Any: JSON
    yield f"Bytes of a call, in MB. Device memory should move at least what operands and result hold; bound {BYTES_BOUND:.0%}. `tensors`: the launch record of the compiler pass, each tensor of each launch once."
    yield ""
    yield "| kernel | least | tensors | device memory (ncu) | L2 (ncu) | against least | remark |"
    yield "|---|---|---|---|---|---|---|"
    for name, profile in kernels.items():
        moved, l2, tensors = (
            _sum(profile, figure, tool, calls) for figure, tool in (("dram_bytes", ""), ("l2_bytes", "ncu"), ("tensor_bytes", "launch"))
        )
        smallest = least.get(name)
        ratio = moved / smallest if moved and smallest else None
        yield f"| {name} | {_mb(smallest)} | {_mb(tensors)} | {_mb(moved)} | {_mb(l2)} | {'-' if ratio is None else f'{ratio:.2f}'} | {_why_bytes(ratio)} |"
    yield ""


def _sum(profile: Profile, name: str, source: str, calls: int) -> float | None:
    per_call = 1 if name == "tensor_bytes" else calls
    found = [
        figure.value / per_call
        for kernel in profile.kernels
        if kernel.kind == "kernel"
        for figure in kernel.figures
        if figure.name == name and (figure.source.startswith(source) or figure.source.startswith("derived"))
    ]
    return sum(found) if found else None


def _why_bytes(ratio: float | None) -> str:
    if ratio is None:
        return "not measured"
    if abs(ratio - 1) <= BYTES_BOUND:
        return "agrees"
    if ratio < 1:
        return "the last writes stay in the L2 (50 MB) and are not counted before the kernel ends, or reads hit it"
    return "intermediate tensors between launches, or data fetched again"


def _failures(profiles: Mapping[str, Profile]) -> Iterator[str]:
    quiet = ("region ", "clocks ", "metrics", "running times", "(rest)")
    lines = [
        f"- {name}: {item.what}: {item.kind}, {item.reason[:200]}"
        for name, profile in profiles.items()
        for item in profile.missing
        # A pass that failed in one study and worked in another on the same device is measured.
        if not item.what.startswith(quiet) and time_of(profile, item.what, 1) is None
    ]
    if lines:
        yield "Not measured:"
        yield ""
        yield from lines


def _sums(profiles: Mapping[str, Profile]) -> Iterator[str]:
    yield f"Clock marks: each region of a kernel's body from a pass of its own, as a share of its programs' cycles; the shares should add up to 1 within {SUM_BOUND:.0%}."
    yield ""
    yield "| case | base, µs | parts of the body | add up to | verdict | passes rejected |"
    yield "|---|---|---|---|---|---|"
    for name, profile in profiles.items():
        sums = [figure for figure in profile.host if figure.name == "clocks_sum_fraction"]
        rejected = sum(1 for item in profile.missing if item.what.startswith("clocks ") and item.kind == "rejected")
        parts = ", ".join(f"{region.name} {region.share:.0%}" for region in clock_regions(profile) if len(region.path) == 2 and region.share is not None)  # fmt: skip
        total = ", ".join(f"{figure.value:.3f}" for figure in sums) or "not all parts measured"
        verdict = (
            "-" if not sums else "within the bound" if all(abs(figure.value - 1) <= SUM_BOUND for figure in sums) else "beyond the bound"
        )
        yield f"| {name} | {_us(profile.host_value('clocks_base_us'))} | {parts or '-'} | {total} | {verdict} | {rejected} |"
    yield ""


def clock_regions(profile: Profile) -> list[Region]:
    """Return the regions that clocks were read around."""
    return [region for region in profile.regions if region.time.source.startswith("multi-pass clocks")]


def localised(plain: Profile, slowed: Profile, expected: str) -> tuple[bool, str]:
    """Return whether the place that was slowed is the region that grew most, and the sentence that says so.

    Args:
        expected: First word of the region's name.
    """
    before = {region.name: region.time.value for region in clock_regions(plain) if len(region.path) == 2}
    after = {region.name: region.time.value for region in clock_regions(slowed) if len(region.path) == 2}
    lost = (slowed.host_value("clocks_base_us") or 0.0) - (plain.host_value("clocks_base_us") or 0.0)
    grown = {name: after[name] - before[name] for name in before if name in after}
    if not grown or lost <= 0:
        return False, "not measured"
    worst = max(grown, key=lambda name: grown[name])
    right = next((name for name in before if name.startswith(f"{expected}@")), "")
    share = grown[worst] / lost
    is_found = worst == right and share >= LOCALISED
    return is_found, f"the call lost {lost:.4g} µs; {worst} grew most, by {grown[worst]:.4g} µs ({share:.0%} of it)"


def _slowed(regions: Mapping[str, Profile]) -> Iterator[str]:
    yield f"A place that was slowed on purpose is localised if its region grew most and accounts for at least {LOCALISED:.0%} of what the call lost."
    yield ""
    yield "| slowed case | slow place is in | localised | figures |"
    yield "|---|---|---|---|"
    for name, (plain, expected) in SLOWED.items():
        if name in regions and plain in regions:
            is_found, words = localised(regions[plain], regions[name], expected)
            yield f"| {name} | {expected} | {'yes' if is_found else 'no'} | {words} |"
    yield ""


def _routes(routes: Mapping[str, Profile], calls: int) -> Iterator[str]:
    yield "Float16, batch 2048, 96 channels in and out, length 200, 3 taps, padding 1, with bias (Table 4 of the paper: 5 kernels for conv1d, 4 for the conv2d work-around, 2 for its own)."
    yield ""
    yield "| route | kernels a call | device time, µs (torch.profiler) | sum of kernels under Nsight Compute, µs |"
    yield "|---|---|---|---|"
    for name, profile in routes.items():
        launched, copies = (
            sum(kernel.launches for kernel in profile.kernels if kernel.kind == kind) / calls for kind in ("kernel", "copy")
        )
        yield f"| {name} | {launched:g}{f' and {copies:g} fill' if copies else ''} | {_us(time_of(profile, 'torch.profiler', calls))} | {_us(time_of(profile, 'ncu', calls))} |"
    yield ""
    yield "| route | kernel | launches a call | µs (torch.profiler) | µs (Nsight Compute) |"
    yield "|---|---|---|---|---|"
    for name, profile in routes.items():
        for kernel in profile.kernels:
            if kernel.kind != "operator" and kernel.launches:
                torch, ncu = (by_tool(kernel, "device_time_us", tool) for tool in ("torch.profiler", "ncu"))
                yield f"| {name} | `{kernel.name[:110]}` | {kernel.launches / calls:g} | {_us(torch and torch / calls)} | {_us(ncu and ncu / calls)} |"


def _us(value: float | None) -> str:
    return "-" if value is None else f"{value:,.1f}"


def _mb(value: float | None) -> str:
    return "-" if not value else f"{value / 1e6:,.1f}"


def _apart(value: float | None, base: float | None, bound: float) -> str:
    if value is None or not base:
        return "-"
    apart = value / base - 1
    return f"{apart:+.1%}{'' if abs(apart) <= bound else ', beyond the bound'}"


if __name__ == "__main__":
    sys.exit(main())
