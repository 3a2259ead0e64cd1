"""Chrome traces: of torch.profiler (Kineto) on GPUs and CPUs, of Proton's instrumentation, and whatever else marks kernels by category.

Times in a trace are in µs. Self times of operators need events in order of their begin, as Kineto writes them; where they are not, only totals are given.
"""

from __future__ import annotations

import heapq
import math
import re
from collections.abc import Mapping
from typing import Any

from tools.profiling.errors import ReportError
from tools.profiling.intervals import Union
from tools.profiling.json_stream import DamagedError, members
from tools.profiling.source import Report
from tools.profiling.tally import Observation, Tally
from tools.profiling.types import Figure, KernelKind, Missing, PassRecord, Profile, Region, Timeline, TimelineEvent

MAX_TIMELINE = 1000
MAX_SCOPES = 500

_KERNELS = frozenset({"kernel", "Kernel", "gpu_kernel", "concurrent_kernel"})
_COPIES = frozenset({"gpu_memcpy", "gpu_memset", "Memcpy", "Memset"})
_RUNTIME = frozenset({"cuda_runtime", "cuda_driver", "hip_runtime", "hip_driver", "Runtime", "runtime"})
_OPERATORS = frozenset({"cpu_op", "operator", "Operator"})
_SCOPES = frozenset({"user_annotation", "python_function"})
_LAUNCH = re.compile(
    r"(?:cuda|cu|hip)\w*Launch\w*Kernel|hip(?:Ext)?(?:Module)?Launch\w*|cudaGraphLaunch|cuGraphLaunch|hipGraphLaunch|cuLaunchKernel\w*"
)
_SYNC = re.compile(r"(?:cuda|cu|hip)\w*Synchronize")
_CYCLES = re.compile(r"(?P<kernel>.*) Core(?P<core>\d+) CTA(?P<cta>\d+) \[measure in clock cycle")
_HEADER = re.compile(r'"(?:traceEvents)"\s*:\s*\[')
_ARRAY = re.compile(r'\A\s*\[\s*\{[^{}]*"ph"\s*:')
_MEANS = (
    ("est. achieved occupancy %", "estimated_occupancy_fraction", 0.01),
    ("warps per SM", "warps_per_multiprocessor", 1.0),
    ("blocks per SM", "waves", 1.0),
)
_SIZES = (("registers per thread", "registers_per_thread"), ("shared memory", "shared_per_block_bytes"))


class ChromeTrace:
    """`{"traceEvents": […]}` or a bare array of events."""

    name = "chrome_trace"

    def accepts(self, head: str) -> bool:
        """Return whether it has trace events."""
        return head.lstrip()[:1] in ("{", "[") and bool(_HEADER.search(head) or _ARRAY.match(head))

    def read(self, report: Report) -> Profile:
        """Return the profile."""
        trace, damage = _Trace(), None
        try:
            for key, value in members(report.chunks(), "traceEvents"):
                if key == "traceEvents" and isinstance(value, Mapping):
                    trace.event(value)
                elif key != "traceEvents":
                    trace.header(key, value)
        except DamagedError as error:
            cut = error.is_end or report.is_cut
            damage = Missing(
                "rest of the trace",
                "truncated" if cut else "malformed",
                f"the file ends early or is damaged after {trace.num_events:,} events: {error}",
            )
        if damage and not trace.num_events:
            raise ReportError(report.name, damage.kind, f"no event could be read: {damage.reason}")
        return trace.profile(report.name, damage)


class _Thread:
    """Open events of one host thread."""

    __slots__ = ("stack", "start")

    def __init__(self) -> None:
        self.stack: list[list[Any]] = []  # [end, name, own time, kind]
        self.start = -math.inf


class _Trace:
    def __init__(self) -> None:
        self.num_events = 0
        self._tally = Tally()
        self._device = Union()
        self._host = Union()
        self._threads: dict[Any, _Thread] = {}
        self._is_ordered = True
        self._longest: list[tuple[float, int, TimelineEvent]] = []
        self._scopes: dict[tuple[str, str], list[float]] = {}
        self._cycles: dict[tuple[str, str], list[float]] = {}
        self._calls = {"launch": [0, 0.0], "sync": [0, 0.0], "runtime": [0, 0.0]}
        self._properties: Any = None
        self._tool = "chrome trace"
        self._odd = 0
        self._origin: float | None = None

    def header(self, key: str, value: Any) -> None:  # Any: JSON
        if key == "deviceProperties" and isinstance(value, list):
            self._properties = value
        if key == "schemaVersion":
            self._tool = "torch.profiler"

    def event(self, event: Mapping[str, Any]) -> None:  # Any: JSON
        if event.get("ph") != "X":
            return
        start, length = _finite(event.get("ts")), _finite(event.get("dur"))
        if start is None or length is None or length < 0:
            self._odd += 1
            return
        self.num_events += 1
        self._origin = start if self._origin is None else min(self._origin, start)
        name, category = str(event.get("name", "?")), str(event.get("cat", ""))
        arguments = event.get("args")
        arguments = arguments if isinstance(arguments, Mapping) else {}
        if match := _CYCLES.match(str(event.get("pid"))):
            held = self._cycles.setdefault((match["kernel"], name), [0.0, 0.0])
            held[0] += length * 1000.0  # written as cycles / 1000, as if the clock ran at 1 GHz
            held[1] += 1
            return
        if category in _KERNELS:
            self._kernel(name, "kernel", start, length, arguments)
        elif category in _COPIES:
            self._kernel(name, "copy", start, length, arguments)
        elif category in _RUNTIME:
            self._runtime(name, length)
        elif category in _OPERATORS or category in _SCOPES:
            self._host_event(name, category, start, length, event.get("tid"))
        else:
            return
        self._keep(TimelineEvent(name[:200], category, start, length, f"{event.get('pid')}/{event.get('tid')}"))

    def _kernel(self, name: str, kind: KernelKind, start: float, length: float, arguments: Mapping[str, Any]) -> None:  # Any: JSON
        self._device.add(start, start + length)
        observed = [
            Observation("device_time_us", length, "us", f"{self._tool} dur", "time"),
            Observation("longest_launch_us", length, "us", f"{self._tool} dur", "time", "max"),
        ]
        for key, figure, scale in _MEANS:
            if (value := _finite(arguments.get(key))) is not None:
                observed.append(
                    Observation(figure, value * scale, "fraction" if scale != 1.0 else "1", f"{self._tool} {key}", "occupancy", "mean")
                )
        for key, figure in _SIZES:
            if (value := _finite(arguments.get(key))) is not None:
                observed.append(
                    Observation(figure, value, "bytes" if key == "shared memory" else "1", f"{self._tool} {key}", "resource", "max")
                )
        for key in ("grid", "block"):
            if isinstance(extent := arguments.get(key), list) and all(isinstance(item, int) for item in extent):
                observed.append(Observation(f"{key}_size", float(math.prod(extent)), "1", f"{self._tool} {key}", "resource", "max"))
        if (moved := _finite(arguments.get("bytes"))) is not None:
            observed.append(Observation("copied_bytes", moved, "bytes", f"{self._tool} bytes", "traffic"))
        self._tally.add(name, observed, kind=kind, weight=length)

    def _runtime(self, name: str, length: float) -> None:
        for kind, matches in (("runtime", True), ("launch", bool(_LAUNCH.fullmatch(name))), ("sync", bool(_SYNC.fullmatch(name)))):
            if matches:
                self._calls[kind][0] += 1
                self._calls[kind][1] += length

    def _host_event(self, name: str, category: str, start: float, length: float, thread_id: Any) -> None:  # Any: JSON
        thread = self._threads.setdefault(thread_id, _Thread())
        if start < thread.start:
            self._is_ordered = False
        thread.start = start
        while thread.stack and thread.stack[-1][0] <= start:
            self._close(thread)
        parent = thread.stack[-1] if thread.stack else None
        if parent is None:
            self._host.add(start, start + length)
        if category in _OPERATORS:
            above = next((item for item in reversed(thread.stack) if item[3] == "operator"), None)
            if above is not None:
                above[2] -= length
            thread.stack.append([start + length, name, length, "operator"])
            self._tally.add(name, [Observation("host_time_us", length, "us", f"{self._tool} dur", "time")], kind="operator")
        else:
            key = (" › ".join([item[1] for item in thread.stack if item[3] == "scope"][-8:]), name)
            if key in self._scopes or len(self._scopes) < MAX_SCOPES:
                held = self._scopes.setdefault(key, [0.0, 0.0])
                held[0] += length
                held[1] += 1
            thread.stack.append([start + length, name, 0.0, "scope"])

    def _close(self, thread: _Thread) -> None:
        _, name, own, kind = thread.stack.pop()
        if kind == "operator":
            self._tally.add(
                name,
                [Observation("host_self_time_us", max(0.0, own), "us", f"{self._tool} dur less children", "time")],
                kind="operator",
                launches=0,
            )

    def _keep(self, event: TimelineEvent) -> None:
        entry = (event.duration_us, -self.num_events, event)
        if len(self._longest) < MAX_TIMELINE:
            heapq.heappush(self._longest, entry)
        elif entry[:2] > self._longest[0][:2]:
            heapq.heapreplace(self._longest, entry)

    def profile(self, name: str, damage: Missing | None) -> Profile:
        for thread in self._threads.values():
            while thread.stack:
                self._close(thread)
        missing = [*([damage] if damage else []), *self._tally.missing()]
        if not self.num_events:
            missing.append(Missing("events", "empty", "the trace holds no event with a duration: nothing ran while it was recorded"))
        if not self._is_ordered:
            missing.append(
                Missing("self times", "malformed", "events are not in order of their begin, so own times of operators are estimates")
            )
        if self._odd:
            missing.append(Missing("events", "malformed", f"{self._odd:,} events without a usable begin or duration were left out"))
        device, target = self._device_name()
        return Profile(
            target=target,
            device=device,
            passes=(
                PassRecord(
                    "torch" if self._tool == "torch.profiler" else "trace", self._tool, "partial" if damage else "collected", detail=name
                ),
            ),
            kernels=self._tally.kernels(),
            host=tuple(self._host_figures(missing)),
            regions=tuple(self._regions()),
            timeline=self._timeline(),
            missing=tuple(missing),
        )

    def _timeline(self) -> Timeline:
        origin = self._origin or 0.0
        kept = sorted((entry[2] for entry in self._longest), key=lambda event: (event.start_us, -event.duration_us))
        moved = (TimelineEvent(event.name, event.category, event.start_us - origin, event.duration_us, event.lane) for event in kept)
        return Timeline(tuple(moved), self.num_events)

    def _host_figures(self, missing: list[Missing]) -> list[Figure]:
        figures = []
        for prefix, union in (("device", self._device), ("host", self._host)):
            busy = union.result()
            if busy is None:
                continue
            source = f"{self._tool}: union of intervals"
            figures += [
                Figure(f"{prefix}_busy_us", busy.busy, "us", source, "time"),
                Figure(f"{prefix}_span_us", busy.last - busy.first, "us", source, "time"),
            ]
            if prefix == "device":
                figures += [
                    Figure("device_idle_us", busy.idle, "us", source, "time"),
                    Figure("num_device_gaps", float(busy.num_gaps), "1", source, "time"),
                ]
                if busy.gaps:
                    figures.append(Figure("longest_device_gap_us", busy.gaps[0][1], "us", source, "time"))
                if busy.closed:
                    missing.append(
                        Missing(
                            "device gaps", "bounded", f"gaps of together {busy.closed:.1f} µs were too many to remember and count as busy"
                        )
                    )
        for kind, word in (("launch", "launch"), ("sync", "sync"), ("runtime", "runtime_call")):
            number, total = self._calls[kind]
            if number:
                plural = {"launch": "num_launches", "sync": "num_syncs"}.get(kind, "num_runtime_calls")
                figures += [
                    Figure(plural, float(number), "1", f"{self._tool} runtime events", "time"),
                    Figure(f"{word}_time_us", total, "us", f"{self._tool} runtime events", "time"),
                ]
        return figures

    def _regions(self) -> list[Region]:
        found = []
        for (path, name), (total, _) in self._scopes.items():
            parts = tuple(part for part in path.split(" › ") if part)
            found.append(Region(name, (*parts, name), "", Figure("time_us", total, "us", f"{self._tool} scope", "time")))
        sums: dict[str, float] = {}
        for (kernel, _), (cycles, _) in self._cycles.items():
            sums[kernel] = sums.get(kernel, 0.0) + cycles
        for (kernel, name), (cycles, _) in self._cycles.items():
            share = cycles / sums[kernel] if sums[kernel] else None
            found.append(Region(name, (kernel, name), kernel, Figure("cycles", cycles, "1", "proton instrumentation", "time"), share))
        return found

    def _device_name(self) -> tuple[str, str]:
        first = self._properties[0] if self._properties else None
        if not isinstance(first, Mapping):
            return "", ""
        major, minor = first.get("computeMajor"), first.get("computeMinor")
        name = str(first.get("name", ""))
        known = isinstance(major, int) and isinstance(minor, int) and "AMD" not in name
        return name, f"cuda:sm_{major}{minor}" if known else ""


def _finite(value: Any) -> float | None:  # Any: JSON
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        found = float(value)
    except ValueError:
        return None
    return found if math.isfinite(found) else None
