"""Region times of Triton kernels by several passes: instrument (variants of the source) → run (interleaved with the unmodified base) → merge.

Two kinds of passes look at regions: variants that leave one out or do it twice, and variants that read the clock around one (`clocks`).

A region's time is what the call loses without it (loads, stores) or gains when it is done twice (dots, reductions, functions). Regions that overlap in a pipeline hide each
other: what is left over is `(rest)`, and may be large. Each pass is held against the base, which runs first and last in every round; one that contradicts it is rejected.
"""

from __future__ import annotations

import ast
import dataclasses
import json
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tools.errors import HarnessError
from tools.profiling.clock_times import clock_profile
from tools.profiling.clocks import Marked, marked_variants
from tools.profiling.formats.registry import read_profile_file
from tools.profiling.jobs import Job, run_jobs
from tools.profiling.regions import Variant, instrumented, variants
from tools.profiling.types import Figure, Missing, PassRecord, Profile, Region

if TYPE_CHECKING:
    from tools.profiling.collect import Request

INTERFERENCE = 0.05
"""A pass is rejected when it contradicts the base by more than this share of the base's time (or three times the noise, if that is more)."""
MARKS_INTERFERENCE = 0.25
"""Cycles between Proton's marks are kept if the marks lengthen a call by no more than this share."""
_SCRIPTS = Path(__file__).resolve().parent / "standalone"
_SCRIPT_NAMES = ("time_variants.py", "profile_instrumented.py")


@dataclass(frozen=True)
class Study:
    """The variants of one candidate."""

    changed: tuple[Variant, ...]
    """Files `variant0.py`, `variant1.py`, …"""
    marked: tuple[Marked, ...]
    """Files `clocks0.py`, `clocks1.py`, …"""

    @property
    def names(self) -> list[str]:
        """Return the module names of all variants."""
        return [f"variant{index}" for index in range(len(self.changed))] + [f"clocks{index}" for index in range(len(self.marked))]


def study_of(source: str, target: str) -> Study:
    """Return the variants of a source; clocks are read on NVIDIA's devices.

    Raises:
        SyntaxError: The source is not Python.
    """
    return Study(variants(source), marked_variants(source) if target.startswith("cuda") else ())


def profile_regions(request: Request, folder: Path, before: Sequence[Profile]) -> Profile:
    """Run the graph for a candidate whose files are in a folder. Never raises for what a pass does: it is in `missing`."""
    try:
        study = study_of(request.candidate.source, request.target)
    except SyntaxError as error:
        return _nothing(request.target, "failed", f"the candidate is not Python: {error}")
    if not study.names:
        return _nothing(
            request.target, "unsupported", "the candidate has no Triton kernel with a load, store, dot, reduction or function to time"
        )
    finished = run_jobs(plan(request, folder, study, before))
    timed: Profile = finished.results.get("merge") or Profile(target=request.target)
    cycles: Profile | None = finished.results.get("proton regions")
    missing = [Missing(name, "failed", reason) for name, reason in finished.failures.items()]
    if cycles is not None and "run" in finished.results:
        cycles = held_against_base(cycles, finished.results["run"].get("synchronised_us"), _instrumented_us(folder))
    return joined([timed, *([cycles] if cycles else [])], missing)


def joined(parts: Sequence[Profile], missing: Sequence[Missing] = ()) -> Profile:
    """Return the passes of one candidate side by side."""
    return Profile(
        target=parts[0].target,
        passes=tuple(item for part in parts for item in part.passes),
        host=tuple(item for part in parts for item in part.host),
        regions=tuple(item for part in parts for item in part.regions),
        missing=(*(item for part in parts for item in part.missing), *missing),
    )


def measured_regions(
    target: str, study: Study, measured: Mapping[str, Any], before: Sequence[Profile]
) -> Profile:  # Any: JSON of time_variants.py
    """Return the regions of both kinds of passes."""
    parts = [region_profile(target, study.changed, measured)] if study.changed else []
    parts += [clock_profile(target, study.marked, measured, before)] if study.marked else []
    return joined(parts)


def held_against_base(cycles: Profile, base_us: float | None, marked_us: float | None) -> Profile:
    """Return Proton's regions if the marks lengthened the call by no more than `MARKS_INTERFERENCE`, else the record without them and the reason."""
    if not base_us or marked_us is None:
        return cycles
    longer = marked_us / base_us - 1.0
    word = f"with marks a call takes {marked_us:.4g} µs, without {base_us:.4g} µs ({longer:+.0%})"
    rejected = longer > MARKS_INTERFERENCE
    records = tuple(
        dataclasses.replace(record, name="proton regions", status="rejected" if rejected else record.status, detail=word)
        for record in cycles.passes
    )
    if not rejected:
        return dataclasses.replace(cycles, passes=records)
    reason = f"{word}: beyond {MARKS_INTERFERENCE:.0%} the marks are what is measured"
    return dataclasses.replace(cycles, passes=records, regions=(), missing=(*cycles.missing, Missing("proton regions", "rejected", reason)))


def plan(request: Request, folder: Path, study: Study, before: Sequence[Profile]) -> tuple[Job, ...]:
    """Return the jobs: write the variants and the instrumented source, time the variants, run Proton, merge."""
    return (
        Job("instrument", lambda _: write_variants(request.candidate.source, folder, study)),
        Job("run", lambda results: _time(request, folder, results["instrument"]), ("instrument",)),
        Job("proton regions", lambda _: _proton(request, folder), ("instrument",)),
        Job("merge", lambda results: measured_regions(request.target, study, results["run"], before), ("run",)),
    )


def region_profile(target: str, found: Sequence[Variant], measured: Mapping[str, Any]) -> Profile:  # Any: JSON of time_variants.py
    """Return regions from the samples of the base and of each variant (`variant0`, `variant1`, …).

    Args:
        measured: `samples_us` (with `base` and `again`, the base at both ends of each round) and `failed` (variant to reason).
    """
    samples, failed = measured["samples_us"], measured["failed"]
    base = statistics.median([*samples["base"], *samples["again"]])
    noise = max(abs(statistics.median(samples["base"]) - statistics.median(samples["again"])), _spread(samples["base"]))
    bound = max(INTERFERENCE * base, 3 * noise)
    regions: list[Region] = []
    missing: list[Missing] = []
    for index, variant in enumerate(found):
        name = f"variant{index}"
        if name not in samples:
            missing.append(Missing(f"region {variant.site.name}", "failed", failed.get(name, "the variant was not run")))
            continue
        changed = statistics.median(samples[name])
        spent = base - changed if variant.method == "remove" else changed - base
        if spent < -bound or (variant.method == "remove" and spent > base):
            word = "without it the call is slower" if variant.method == "remove" else "doing it twice makes the call faster"
            missing.append(
                Missing(
                    f"region {variant.site.name}",
                    "rejected",
                    f"{word} ({changed:.4g} µs, base {base:.4g} µs, bound {bound:.3g} µs): the compiler changed more than the region",
                )
            )
            continue
        spent = max(0.0, spent)
        source = f"multi-pass: {'base less variant without it' if variant.method == 'remove' else 'variant with it twice less base'}"
        site = variant.site
        regions.append(Region(site.name.partition(".")[2], (site.kernel, site.name.partition(".")[2]), site.kernel, Figure("time_us", spent, "us", source, "time"), spent / base if base else None, (site.line, site.end_line)))  # fmt: skip
    total = sum(region.time.value for region in regions)
    if regions:
        rest = base - total
        if rest >= 0:
            regions.append(
                Region("(rest)", ("(rest)",), "", Figure("time_us", rest, "us", "multi-pass: base less all regions", "time"), rest / base)
            )
        else:
            missing.append(
                Missing(
                    "(rest)",
                    "bounded",
                    f"regions add up to {total / base:.0%} of the base: doing them twice costs more than they cost once, or they do not overlap as in the base",
                )
            )
    host = (
        Figure("regions_base_us", base, "us", "multi-pass: median of the unmodified call", "time"),
        Figure("regions_noise_us", noise, "us", "multi-pass: base against base", "time"),
        Figure("regions_sum_fraction", total / base if base else 0.0, "fraction", "multi-pass: regions / base", "time"),
    )
    rejected = sum(1 for item in missing if item.kind == "rejected")
    record = PassRecord(
        "regions",
        f"multi-pass, {len(found)} variants",
        "partial" if missing else "collected",
        detail=f"base {base:.4g} µs, noise {noise:.3g} µs, {rejected} passes rejected beyond {bound:.3g} µs",
    )
    return Profile(target=target, passes=(record,), host=host, regions=tuple(regions), missing=tuple(missing))


def _spread(samples: Sequence[float]) -> float:
    """Return the standard error of a median, by the interquartile range."""
    if len(samples) < 4:
        return 0.0
    low, _, high = statistics.quantiles(samples, n=4)
    return float((high - low) / 1.35 * 1.25 / len(samples) ** 0.5)


def write_variants(source: str, folder: Path, study: Study) -> list[str]:
    """Write the modules of a study and the scripts that run them; return the modules' names."""
    for script in _SCRIPT_NAMES:
        (folder / script).write_text((_SCRIPTS / script).read_text(encoding="utf-8"), encoding="utf-8")
    sources = [variant.source for variant in study.changed] + [variant.source for variant in study.marked]
    for name, text in zip(study.names, sources, strict=True):
        ast.parse(text)
        (folder / f"{name}.py").write_text(text, encoding="utf-8")
    (folder / "instrumented.py").write_text(instrumented(source), encoding="utf-8")
    return study.names


def _time(request: Request, folder: Path, names: Sequence[str]) -> Mapping[str, Any]:
    """Time all variants in one process; if one of them ends it, each in a process of its own with the base."""
    out = folder / "variants.json"
    try:
        return _run(request, folder, out, names)
    except HarnessError:
        pass
    alone: dict[str, Any] = {"samples_us": {"base": [], "again": []}, "clocks": {}, "failed": {}}
    for name in names:
        try:
            one = _run(request, folder, out, [name])
        except HarnessError as error:
            alone["failed"][name] = str(error)
            continue
        for key, values in one["samples_us"].items():
            alone["samples_us"].setdefault(key, []).extend(values)
        alone["failed"].update(one["failed"])
        alone["clocks"].update(one["clocks"])
    if not alone["samples_us"]["base"]:
        raise HarnessError(f"no variant could be timed: {next(iter(alone['failed'].values()), 'none was run')}")
    return alone


def _run(request: Request, folder: Path, out: Path, names: Sequence[str]) -> Mapping[str, Any]:
    from tools.profiling.collect import run_child

    out.unlink(missing_ok=True)
    outcome = run_child([sys.executable, "time_variants.py", out.name, *names], folder, request.timeout_s)
    if not out.exists():
        raise HarnessError(
            "killed after the time limit" if outcome.status is None else f"ended with code {outcome.status}: {outcome.output[-400:]}"
        )
    found: Mapping[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    return found


def _proton(request: Request, folder: Path) -> Profile:
    from tools.profiling.collect import run_child

    report = folder / "instrumented.hatchet"
    outcome = run_child([sys.executable, "profile_instrumented.py", "instrumented"], folder, request.timeout_s)
    if not report.exists():
        raise HarnessError(
            "killed after the time limit"
            if outcome.status is None
            else f"Proton's instrumentation ended with code {outcome.status}: {outcome.output[-400:]}"
        )
    return read_profile_file(report)


def _instrumented_us(folder: Path) -> float | None:
    try:
        return float(json.loads((folder / "instrumented.json").read_text(encoding="utf-8"))["instrumented_us"])
    except (OSError, ValueError, KeyError):
        return None


def _nothing(target: str, kind: Any, reason: str) -> Profile:  # Any: a MissingKind
    return Profile(
        target=target, passes=(PassRecord("regions", "multi-pass", "failed", detail=reason),), missing=(Missing("regions", kind, reason),)
    )
