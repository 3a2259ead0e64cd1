"""A profile as Markdown: a summary, what stands out, and a section for each kernel. Made for people, for retrieval, and for citing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from tools.profiling.causes import Cause, ProfileDiagnosis
from tools.profiling.merge import agreements
from tools.profiling.rules import diagnose_profile
from tools.profiling.types import Figure, KernelProfile, Profile

MAX_KERNEL_SECTIONS = 40
MAX_LINES = 12
MAX_FIGURES = 40


def as_markdown(profile: Profile, name: str, diagnosis: ProfileDiagnosis | None = None) -> str:
    """Return the document.

    Args:
        name: Of the file or candidate that it is about.
        diagnosis: By the target's limits; None: by rules that need none. Only a given one lists the causes that cannot be told: in a document that is searched,
            the names of what was not found would be found.
    """
    is_given = diagnosis is not None
    diagnosis = diagnosis or diagnose_profile(profile, {})
    lines = [f"# Profile of {name}", "", *_summary(profile), "", "## What stands out", "", *_anomalies(profile, diagnosis, is_given), ""]
    shown = [kernel for kernel in profile.kernels if kernel.time_us > 0 or not kernel.launches][:MAX_KERNEL_SECTIONS]
    for kernel in shown:
        lines += [*_kernel(kernel, profile), ""]
    if len(profile.kernels) > len(shown):
        lines += [f"{len(profile.kernels) - len(shown)} more kernels or operators took less time.", ""]
    if profile.regions:
        lines += ["## Regions", "", *_regions(profile), ""]
    if profile.missing:
        lines += ["## Not measured", "", *(f"- {item.what}: {item.kind.replace('_', ' ')}; {item.reason}" for item in profile.missing), ""]
    lines += [
        "## How it was made",
        "",
        *(f"- {record.name}: {record.tool}, {record.status}. {record.detail}".rstrip() for record in profile.passes),
        "",
    ]
    return "\n".join(lines)


def diagnosis_json(diagnosis: ProfileDiagnosis) -> dict[str, Any]:  # Any: JSON
    """Return a diagnosis as JSON."""
    return asdict(diagnosis)


def _summary(profile: Profile) -> Iterator[str]:
    device = [kernel for kernel in profile.kernels if kernel.kind != "operator"]
    operators = [kernel for kernel in profile.kernels if kernel.kind == "operator"]
    where = " on ".join(part for part in (profile.target or "an unnamed target", profile.device) if part)
    yield f"Profile of {len(device)} kernels and {len(operators)} host operators, {where}."
    if profile.device_time_us:
        launches = sum(kernel.launches for kernel in device)
        yield f"Device time {profile.device_time_us:,.4g} µs in {launches:,} launches and copies."
    for figure in profile.host:
        yield f"- {_plain(figure)}"
    total = profile.device_time_us or sum(kernel.time_us for kernel in operators)
    for kernel in profile.kernels[:8]:
        if kernel.time_us and total:
            yield f"- {kernel.kind} `{kernel.name[:200]}`: {kernel.time_us:,.4g} µs, {kernel.time_us / total:.1%}, {kernel.launches:,} times"


def _anomalies(profile: Profile, diagnosis: ProfileDiagnosis, with_names: bool) -> Iterator[str]:
    causes: Sequence[Cause] = ([diagnosis.dominant] if diagnosis.dominant else []) + list(diagnosis.deferred)
    for cause in causes[:12]:
        yield f"- {cause.name.replace('_', ' ')}{f' in `{cause.kernel[:120]}`' if cause.kernel else ''}: {cause.claim} Evidence: {'; '.join(cause.evidence)}."
    for item in agreements(profile)[:8]:
        if not item.agrees:
            yield f"- {item.left.source} and {item.right.source} differ by {item.difference:.0%} in {item.name} of `{item.kernel[:120]}`. {item.explanation}".rstrip()
    if not causes:
        yield "No rule found a cause with the figures at hand."
    if diagnosis.cannot_tell:
        names = ", ".join(name.replace("_", " ") for name in diagnosis.cannot_tell)
        yield f"- {len(diagnosis.cannot_tell)} causes cannot be told without other figures{f': {names}' if with_names else ''}."


def _kernel(kernel: KernelProfile, profile: Profile) -> Iterator[str]:
    yield f"## {kernel.kind.capitalize()} {kernel.name[:200]}"
    yield ""
    head = f"{kernel.launches:,} times, {kernel.time_us:,.4g} µs in all." if kernel.launches else "Compiled, not run."
    total = profile.device_time_us
    if total and kernel.kind != "operator" and kernel.time_us:
        head += f" {kernel.time_us / total:.1%} of the device time."
    if kernel.limiter:
        head += f" Occupancy is limited by {kernel.limiter.replace('_', ' ')}."
    yield head
    yield ""
    groups = (("time", "Time"), ("rate", "Rates"), ("traffic", "Memory traffic"), ("occupancy", "Occupancy"), ("stall", "Stalls"), ("instruction", "Instructions"), ("resource", "Resources"), ("other", "Other counters"))  # fmt: skip
    left = MAX_FIGURES
    for group, title in groups:
        figures = kernel.group(group)[: max(0, left)]  # type: ignore[arg-type]  # the literals of Group
        left -= len(figures)
        if figures:
            yield f"{title}: " + "; ".join(_plain(figure) for figure in figures) + "."
            yield ""
    yield from _lines(kernel)
    for remark in kernel.remarks:
        yield f"- {remark}"


def _lines(kernel: KernelProfile) -> Iterator[str]:
    """Yield the lines of the source that most instructions stem from."""
    stage = next((name for name in ("ptx", "amdgcn", "ttgir", "ttir") if any(name in line.instructions for line in kernel.lines)), "")
    total = sum(line.instructions.get(stage, 0) for line in kernel.lines)
    if not total:
        return
    yield f"Lines of the source by their instructions in the {stage} ({total:,} in all):"
    yield ""
    for line in sorted(kernel.lines, key=lambda item: -item.instructions.get(stage, 0))[:MAX_LINES]:
        if line.instructions.get(stage):
            yield f"- line {line.line}: {line.instructions[stage]:,}{f', `{line.text.strip()[:120]}`' if line.text.strip() else ''}"
    yield ""


def _regions(profile: Profile) -> Iterator[str]:
    for region in sorted(profile.regions, key=lambda item: -item.time.value)[:100]:
        share = f", {region.share:.1%} of its kernel" if region.share is not None else ""
        where = f", lines {region.lines[0]} to {region.lines[1]}" if region.lines else ""
        yield f"- {' › '.join(region.path)}: {region.time.value:,.4g} {'µs' if region.time.unit == 'us' else region.time.name}{share}{where} ({region.time.source})"


def _plain(figure: Figure) -> str:
    name = figure.name.removesuffix("_fraction").removesuffix("_us").replace("_", " ")
    if figure.unit == "fraction":
        return f"{name} {figure.value:.1%} ({figure.source})"
    unit = {"us": " µs", "1": "", "bytes": " bytes"}.get(figure.unit, f" {figure.unit}")
    return f"{name} {figure.value:,.6g}{unit} ({figure.source})"
