"""Nsight Compute's CSV: the details page (a row for each metric) and the raw page (a row for each launch, units in the row below the header).

Made with `ncu --csv …` or `ncu --import FILE --csv --page details|raw`. `==PROF==` lines and the program's own output may stand before the table. Nsight
Compute serialises kernels, by default locks clocks and flushes caches between replays: its durations are not those of the program.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Literal

from tools.profiling.errors import ReportError
from tools.profiling.formats import table
from tools.profiling.formats.ncu_metrics import BLOCK_LIMITS, is_wanted, meaning
from tools.profiling.numerals import Style, number, to_base
from tools.profiling.source import Report
from tools.profiling.tally import Observation, Tally
from tools.profiling.types import Missing, MissingKind, PassRecord, Profile

_RAW_METRIC = re.compile(r"[a-z0-9]+__\w+(?:\.\w+)*")
_NO_PERMISSION = ("ERR_NVGPUCTRPERM", "does not have permission to access NVIDIA GPU Performance Counters")
_NO_KERNELS = "No kernels were profiled"
_PROFILED = re.compile(r'^==PROF== Profiling "(?P<kernel>.+?)"', re.MULTILINE)
_ERROR = re.compile(r"^==ERROR== (?P<text>.+)$", re.MULTILINE)
_STRUCTURE = frozenset(
    {
        "ID",
        "Process ID",
        "Process Name",
        "Host Name",
        "Kernel Name",
        "Kernel Time",
        "Context",
        "Stream",
        "Block Size",
        "Grid Size",
        "Device",
        "CC",
    }
)


def _is_details(cells: Sequence[str]) -> bool:
    return {"Kernel Name", "Metric Name", "Metric Value"} <= set(cells)


def _is_raw(cells: Sequence[str]) -> bool:
    return {"ID", "Kernel Name"} <= set(cells) and any(_RAW_METRIC.fullmatch(cell) for cell in cells)


class NcuCsv:
    """Both pages."""

    name = "ncu_csv"

    def accepts(self, head: str) -> bool:
        """Return whether there is a table of ncu, or its messages without one."""
        return bool(table.header_in(head, _is_details) or table.header_in(head, _is_raw) or "==PROF==" in head or "==ERROR==" in head)

    def read(self, report: Report) -> Profile:
        """Return the profile."""
        failed = _failure(report.head)
        page: Literal["details", "raw"]
        if (found := table.header_in(report.head, _is_details)) is not None:
            page = "details"
        elif (found := table.header_in(report.head, _is_raw)) is not None:
            page = "raw"
        else:
            kind, text = failed or ("empty", "it holds messages of ncu and no table: ask for one with --csv, or nothing was profiled")
            raise ReportError(report.name, kind, text)
        style = table.style_of(report.head, found[1])
        reader = _Details(style) if page == "details" else _Raw(style)
        missing: list[Missing] = []
        rows = table.rows(report, _is_details if page == "details" else _is_raw)
        header = next(rows)
        try:
            for row in rows:
                reader.row(header, row)
        except ReportError as error:
            missing.append(Missing("rest of the table", error.kind, error.message))
        reader.finish()
        if report.is_cut or reader.short_rows:
            missing.append(
                Missing("rest of the table", "truncated", f"the table ends early: {reader.short_rows} incomplete rows were left out")
            )
        if not reader.launches:
            raise ReportError(
                report.name, missing[0].kind if missing else "empty", "the table has a header and no launch: nothing was profiled"
            )
        if failed:
            missing.append(Missing("some kernels", *failed))
        missing += reader.unknown()
        return Profile(
            target=reader.target,
            passes=(
                PassRecord(
                    "ncu",
                    f"ncu, {page} page",
                    "partial" if missing else "collected",
                    detail=f"{report.name}; serialises kernels, may lock clocks and flush caches",
                ),
            ),
            kernels=reader.tally.kernels(),
            missing=(*missing, *reader.tally.missing()),
            num_calls=1,
        )


def _failure(head: str) -> tuple[MissingKind, str] | None:
    if any(text in head for text in _NO_PERMISSION):
        return "no_permission", "this user may not read performance counters: set NVreg_RestrictProfilingToAdminUsers=0 or run ncu as root"
    if _NO_KERNELS in head:
        return "empty", "ncu saw no kernel: check --kernel-name, --launch-skip and that the program launches one"
    if match := _ERROR.search(head):
        return "failed", f"ncu reports: {match['text'][:300]}"
    return None


class _Pages:
    """What both pages share: one launch at a time into the sums."""

    def __init__(self, style: Style) -> None:
        self.tally = Tally()
        self.launches = 0
        self.short_rows = 0
        self.target = ""
        self._style = style
        self._unmeasured: dict[str, int] = {}

    def unknown(self) -> list[Missing]:
        """Return the metrics that ncu printed without a value."""
        names = sorted(self._unmeasured)
        if not names:
            return []
        return [Missing("metrics", "unsupported", f"{len(names)} metrics have no value on this device, for example {', '.join(names[:5])}")]

    def _observe(self, metric: str, unit: str, text: str) -> Observation | None:
        value = number(text, self._style)
        if value is None:
            if text.lower() in ("n/a", "nan", "", "inf", "-nan"):
                self._unmeasured[metric] = self._unmeasured.get(metric, 0) + 1
            return None
        name, group, how = meaning(metric, unit)
        base, base_unit = to_base(value, unit)
        if name.endswith("_fraction") and unit == "" and metric.endswith(("pct", "_pct")):
            base, base_unit = value / 100.0, "fraction"
        return Observation(name, base, base_unit, f"ncu {metric}", group, how)

    def _fold(self, kernel: str, observed: Sequence[Observation], remarks: Sequence[str], capability: str) -> None:
        by_name = {item.name: item.value for item in observed}
        limits = {word: by_name[name] for name, word in BLOCK_LIMITS.items() if name in by_name}
        limiter = min(limits, key=lambda word: limits[word]) if limits else ""
        self.tally.add(kernel, observed, weight=by_name.get("device_time_us", 1.0), limiter=limiter, remarks=remarks)
        self.launches += 1
        major, _, minor = capability.partition(".")
        if major.isdigit() and minor.isdigit():
            self.target = f"cuda:sm_{major}{minor}"


class _Details(_Pages):
    def __init__(self, style: Style) -> None:
        super().__init__(style)
        self._key: tuple[str, ...] | None = None
        self._kernel = ""
        self._capability = ""
        self._observed: dict[str, Observation] = {}
        self._remarks: list[str] = []

    def row(self, header: Sequence[str], cells: Sequence[str]) -> None:
        """Take a row: one metric or one remark of a rule."""
        if len(cells) < header.index("Metric Value") + 1:
            self.short_rows += 1
            return
        values = dict(zip(header, cells, strict=False))
        key = (values.get("ID", ""), values.get("Process ID", ""), values["Kernel Name"])
        if key != self._key:
            self.finish()
            self._key, self._kernel = key, values["Kernel Name"]
            self._capability = values.get("CC", "")
            for name, common in (("Grid Size", "grid_size"), ("Block Size", "block_size")):
                if (extent := _product(values.get(name, ""))) is not None:
                    self._observed[common] = Observation(common, extent, "1", f"ncu {name}", "resource", "max")
        metric = values["Metric Name"]
        if metric:
            seen = self._observe(metric, values.get("Metric Unit", ""), values["Metric Value"])
            if seen is not None:
                self._observed.setdefault(seen.name, seen)
        rule = values.get("Rule Description", "")
        if rule and values.get("Rule Type", "").upper() in ("OPT", "WRN", "WARNING", "OPTIMIZATION"):
            self._remarks.append(f"{values.get('Rule Name', 'rule')}: {' '.join(rule.split())}")

    def finish(self) -> None:
        """Close the launch that is open."""
        if self._key is not None and (self._observed or self._remarks):
            self._fold(self._kernel, list(self._observed.values()), self._remarks, self._capability)
        self._key, self._observed, self._remarks = None, {}, []


class _Raw(_Pages):
    def __init__(self, style: Style) -> None:
        super().__init__(style)
        self._units: dict[str, str] | None = None

    def row(self, header: Sequence[str], cells: Sequence[str]) -> None:
        """Take a row: the units, or one launch."""
        values: Mapping[str, str] = dict(zip(header, cells, strict=False))
        if self._units is None:
            self._units = {}
            if not values.get("ID") and not values.get("Kernel Name"):
                self._units = {name: unit for name, unit in values.items() if unit}
                return
        if len(cells) < len(header) or not values["Kernel Name"]:
            self.short_rows += 1
            return
        observed: dict[str, Observation] = {}
        for metric, text in values.items():
            if metric in _STRUCTURE or not _RAW_METRIC.fullmatch(metric) or not is_wanted(metric):
                continue
            seen = self._observe(metric, self._units.get(metric, ""), text)
            if seen is None:
                continue
            held = observed.setdefault(seen.name, seen)
            if seen.name == "tensor_pipe_fraction" and seen.value > held.value:
                observed[seen.name] = seen
        for name, common in (("Grid Size", "grid_size"), ("Block Size", "block_size")):
            if common not in observed and (extent := _product(values.get(name, ""))) is not None:
                observed[common] = Observation(common, extent, "1", f"ncu {name}", "resource", "max")
        self._fold(values["Kernel Name"], list(observed.values()), (), values.get("CC", ""))

    def finish(self) -> None:
        """Nothing is open."""


def _product(text: str) -> float | None:
    numbers = re.findall(r"\d+", text)
    if not numbers:
        return None
    product = 1.0
    for item in numbers:
        product *= int(item)
    return product
