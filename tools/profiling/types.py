"""The record of a profile: what was seen of one program by one or several tools, every figure with its source, and what could not be seen and why.

A profile explains; it is never the score (profilers disturb what they look at, and some change clocks and caches). Plain values; standard library only.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from tools.types import Evidence

SCHEMA = "kevolve-profile"
VERSION = 1
"""Raised when a field changes its meaning or goes; readers refuse what is newer."""

Group = Literal["time", "traffic", "rate", "occupancy", "stall", "instruction", "resource", "other"]
KernelKind = Literal["kernel", "copy", "operator"]
"""`kernel`: ran on the device; `copy`: memory copies and fills; `operator`: ran on the host (on `cpu` that is the work itself)."""
MissingKind = Literal[
    "tool_missing", "no_permission", "no_device", "unsupported", "timeout", "failed", "empty", "truncated", "malformed",
    "foreign_version", "unknown_format", "too_large", "rejected", "bounded",
]  # fmt: skip
"""`rejected`: measured, and thrown away because the measurement disturbed too much; `bounded`: more was there than the record holds."""


@dataclass(frozen=True)
class Figure:
    """One number with its unit and its source."""

    name: str
    """What it is, the same for every tool: `device_time_us`, `dram_read_bytes`. Names of metrics that have no common name stay the tool's own."""
    value: float
    unit: str
    """`us`, `bytes`, `fraction` (0 to 1), `1` for counts, or the tool's own."""
    source: str
    """Tool and metric, for example `ncu dram__bytes_read.sum`, or the arithmetic: `derived: (…) / (…)`."""
    group: Group = "other"
    evidence: Evidence = Evidence.MEASURED

    def __post_init__(self) -> None:
        if not math.isfinite(self.value):
            raise ValueError(f"{self.name} must be finite, got {self.value!r}; leave out what was not measured and say so")


@dataclass(frozen=True)
class SourceLine:
    """What the compiler made of one line of a kernel's source."""

    line: int
    """In the file that holds the kernel, from 1."""
    text: str
    """The line itself; empty if the source is not at hand."""
    instructions: Mapping[str, int]
    """Stage (`ttir`, `ttgir`, `ptx`, `amdgcn`) to the number of its instructions that stem from this line, inlined functions included."""


@dataclass(frozen=True)
class KernelProfile:
    """Everything known about one kernel, summed over its launches."""

    name: str
    kind: KernelKind = "kernel"
    launches: int = 0
    """How often it ran while it was observed; 0: not observed running (compiled only)."""
    figures: tuple[Figure, ...] = ()
    """Sums over all launches where a sum makes sense; fractions are means weighted by time; sizes and registers the largest."""
    limiter: str = ""
    """What caps occupancy: `registers`, `shared_memory`, `warps` or `blocks`; empty: unknown."""
    remarks: tuple[str, ...] = ()
    """What the tool itself found noteworthy."""
    lines: tuple[SourceLine, ...] = ()
    """The source by line with what became of it, in order of lines; empty if unknown."""

    def figure(self, name: str) -> Figure | None:
        """Return the first figure of a name: the one of the most trusted source once a profile is merged."""
        return next((figure for figure in self.figures if figure.name == name), None)

    def value(self, name: str) -> float | None:
        """Return the value of a figure, None if it is not known."""
        found = self.figure(name)
        return None if found is None else found.value

    def group(self, group: Group) -> tuple[Figure, ...]:
        """Return the figures of one group, largest first."""
        return tuple(sorted((figure for figure in self.figures if figure.group == group), key=lambda figure: -figure.value))

    @property
    def time_us(self) -> float:
        """Total time in µs: on the device for kernels and copies, own time on the host for operators; 0.0 if unknown."""
        return (self.value("host_self_time_us") if self.kind == "operator" else self.value("device_time_us")) or 0.0


@dataclass(frozen=True)
class Region:
    """A part of a program or of a kernel and the time it took."""

    name: str
    path: tuple[str, ...]
    """Scopes from the outside in, ending with `name`."""
    kernel: str
    """The kernel it is a part of; empty for scopes of the host."""
    time: Figure
    """`time_us` or `cycles`, inclusive."""
    share: float | None = None
    """Of its kernel's time, 0 to 1; None if unknown. Regions that overlap add up to more than 1."""
    lines: tuple[int, int] | None = None
    """First and last line in the candidate's source; None if unknown."""

    def __post_init__(self) -> None:
        if self.share is not None and not math.isfinite(self.share):
            raise ValueError(f"the share of region {self.name!r} must be finite, got {self.share!r}")


@dataclass(frozen=True)
class TimelineEvent:
    """One event of a trace, relative to the beginning of the trace."""

    name: str
    category: str
    start_us: float
    duration_us: float
    lane: str
    """Thread or stream."""


@dataclass(frozen=True)
class Timeline:
    """The longest events of a trace, in order of time: bounded, whatever the size of the trace."""

    events: tuple[TimelineEvent, ...]
    num_events: int
    """Events in the trace, kept or not."""


@dataclass(frozen=True)
class Missing:
    """Something that was not measured."""

    what: str
    """`stalls`, `timeline`, a pass's name, …"""
    kind: MissingKind
    reason: str
    """One sentence that says what to do about it, where something can be done."""

    def __post_init__(self) -> None:
        if self.kind not in get_args(MissingKind):
            raise ValueError(f"unknown kind {self.kind!r} of a missing measurement; known: {', '.join(get_args(MissingKind))}")


@dataclass(frozen=True)
class PassRecord:
    """One run of the program under one tool."""

    name: str
    """`base`, `torch`, `ncu`, `region:load`, …"""
    tool: str
    """Tool with version."""
    status: Literal["collected", "partial", "failed", "rejected"]
    seconds: float = 0.0
    detail: str = ""
    """What it looked at, how it disturbs (clocks, caches, replays), how it was confined."""


@dataclass(frozen=True)
class Profile:
    """One profile. Figures of several tools stand side by side in it; they are never averaged."""

    target: str
    """For example `cuda:sm_90`; empty if the file does not say."""
    device: str = ""
    """The device's name as the tool printed it."""
    candidate_id: str = ""
    problem_id: str = ""
    passes: tuple[PassRecord, ...] = ()
    kernels: tuple[KernelProfile, ...] = ()
    """Longest first."""
    host: tuple[Figure, ...] = ()
    """About the program as a whole: `wall_time_us`, `device_busy_us`, `device_idle_us`, `launch_time_us`, `num_launches`, `sync_time_us`, …"""
    regions: tuple[Region, ...] = ()
    timeline: Timeline | None = None
    missing: tuple[Missing, ...] = ()
    num_calls: int = 1
    """Calls of the candidate behind the sums."""

    def to_json(self) -> dict[str, Any]:  # Any: JSON
        """Return a JSON-ready mapping; `from_json` restores an equal value."""
        return {"schema": SCHEMA, "version": VERSION, **dataclasses.asdict(self)}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Profile:  # Any: JSON
        """Rebuild a profile from `to_json` output. Fields that are not known (a later, compatible writer) are left out.

        Raises:
            ValueError: It is not a profile, or one of a newer version, or a value is impossible.
        """
        if data.get("schema") != SCHEMA:
            raise ValueError(f"not a {SCHEMA} record")
        if not isinstance(data.get("version"), int) or data["version"] > VERSION:
            raise ValueError(
                f"version {data.get('version')!r} of {SCHEMA} is newer than {VERSION}, which this program reads; update the program"
            )
        try:
            values = _known(Profile, data)
            values["passes"] = tuple(PassRecord(**_known(PassRecord, item)) for item in values.get("passes", ()))
            values["kernels"] = tuple(_kernel(item) for item in values.get("kernels", ()))
            values["host"] = tuple(_figure(item) for item in values.get("host", ()))
            values["regions"] = tuple(_region(item) for item in values.get("regions", ()))
            values["missing"] = tuple(Missing(**_known(Missing, item)) for item in values.get("missing", ()))
            values["timeline"] = _timeline(values.get("timeline"))
            return Profile(**values)
        except (TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"the record is damaged: {error}") from error

    def kernel(self, name: str) -> KernelProfile | None:
        """Return a kernel by name."""
        return next((kernel for kernel in self.kernels if kernel.name == name), None)

    def host_value(self, name: str) -> float | None:
        """Return the value of a figure of the program as a whole, None if it is not known."""
        return next((figure.value for figure in self.host if figure.name == name), None)

    @property
    def device_time_us(self) -> float:
        """Total time of kernels and copies on the device, in µs."""
        return sum(kernel.time_us for kernel in self.kernels if kernel.kind != "operator")


def _known(kind: type, data: Mapping[str, Any]) -> dict[str, Any]:  # Any: JSON
    names = {field.name for field in dataclasses.fields(kind)}
    return {name: value for name, value in data.items() if name in names}


def _figure(data: Mapping[str, Any]) -> Figure:  # Any: JSON
    return Figure(**{**_known(Figure, data), "evidence": Evidence(data.get("evidence", "measured"))})


def _kernel(data: Mapping[str, Any]) -> KernelProfile:  # Any: JSON
    values = _known(KernelProfile, data)
    values["figures"] = tuple(_figure(item) for item in values.get("figures", ()))
    values["remarks"] = tuple(values.get("remarks", ()))
    values["lines"] = tuple(SourceLine(**_known(SourceLine, item)) for item in values.get("lines", ()))
    return KernelProfile(**values)


def _region(data: Mapping[str, Any]) -> Region:  # Any: JSON
    values = _known(Region, data)
    lines = values.get("lines")
    return Region(**{**values, "path": tuple(values["path"]), "time": _figure(values["time"]), "lines": tuple(lines) if lines else None})


def _timeline(data: Mapping[str, Any] | None) -> Timeline | None:  # Any: JSON
    if data is None:
        return None
    return Timeline(tuple(TimelineEvent(**_known(TimelineEvent, item)) for item in data["events"]), int(data["num_events"]))
