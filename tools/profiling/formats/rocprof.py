"""AMD's tables: rocprofv3 (kernel trace, counter collection, kernel statistics), rocprof v1 results and statistics, and rocprofiler-compute's pmc_perf.

One file is one table. Counters are summed over their instances (`TCC_READ[0]` … `TCC_READ[15]`). Formulas for bytes are those of AMD's counter documentation
(ROCm documentation, MI200 and MI300 performance counters).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from tools.profiling.errors import ReportError
from tools.profiling.formats import table
from tools.profiling.intervals import Union
from tools.profiling.numerals import number
from tools.profiling.source import Report
from tools.profiling.tally import Observation, Tally
from tools.profiling.types import Figure, Missing, PassRecord, Profile

_KERNEL_COLUMNS = ("kernel_name", "kernelname")
_BEGIN = ("start_timestamp", "beginns")
_END = ("end_timestamp", "endns")
_SUFFIX = re.compile(r"_(?:\d+)$")
_INSTANCE = re.compile(r"(?P<counter>\w+?)\[\d+\]")
_COUNTER = re.compile(
    r"[A-Z][A-Z0-9]*_\w+|[A-Z][a-zA-Z]+(?:Busy|Hit|Stalled|Utilization|Insts|Bytes|Size|Stall|Conflict)|Wavefronts|Occupancy\w*"
)
_NOT_COUNTERS = re.compile(
    r"(?i)(?:index|dispatch_id|kernel_?name|kernel_id|gpu.id|agent_id|node_id|queue.?(?:id|index)|stream_id|process_id|thread_id|pid|tid|guid|kind|correlation_id|wave_size|obj|sig|xcc_index|"
    r"dispatchns|completens|beginns|endns|durationns|start_timestamp|end_timestamp|gr[di]\w*|wgr|workgroup_size\w*|lds\w*|scr\w*|private_segment_size|group_segment_size|"
    r"(?:arch_|accum_)?vgpr\w*|sgpr\w*|fbar|counter_name|counter_value)(?:_\d+)?"
)
_RESOURCES = (
    (("arch_vgpr", "vgpr_count", "vgpr"), "registers_per_thread"),
    (("accum_vgpr", "accum_vgpr_count"), "accumulation_registers_per_thread"),
    (("sgpr", "sgpr_count"), "scalar_registers"),
    (("lds_per_workgroup", "lds_block_size", "lds", "group_segment_size"), "shared_per_block_bytes"),
    (("scratch_per_workitem", "scratch_size", "scr", "private_segment_size"), "scratch_bytes"),
    (("workgroup_size", "wgr"), "block_size"),
    (("grid_size", "grd"), "threads"),
)
_INSTRUCTIONS = {
    "SQ_INSTS_VALU": "instructions_valu",
    "SQ_INSTS_MFMA": "instructions_mfma",
    "SQ_INSTS_VALU_MFMA_F16": "instructions_mfma_f16",
    "SQ_INSTS_VALU_MFMA_BF16": "instructions_mfma_bf16",
    "SQ_INSTS_VALU_MFMA_F32": "instructions_mfma_f32",
    "SQ_INSTS_SALU": "instructions_salu",
    "SQ_INSTS_LDS": "instructions_lds",
    "SQ_INSTS_SMEM": "instructions_smem",
    "SQ_INSTS_VMEM": "instructions_vmem",
    "SQ_INSTS_VMEM_RD": "instructions_vmem_read",
    "SQ_INSTS_VMEM_WR": "instructions_vmem_write",
    "SQ_INSTS_FLAT": "instructions_flat",
    "SQ_INSTS_BRANCH": "instructions_branch",
    "SQ_INSTS_VALU_CVT": "instructions_convert",
    "SQ_WAVES": "waves_launched",
}
_STALLS = {"SQ_WAIT_ANY": "stall_any_cycles", "SQ_WAIT_INST_ANY": "stall_instruction_cycles", "SQ_WAIT_INST_LDS": "stall_lds_cycles"}


def _kind_of(cells: Sequence[str]) -> str | None:
    low = {cell.lower() for cell in cells}
    has_name = any(name in low for name in _KERNEL_COLUMNS)
    if has_name and {"counter_name", "counter_value"} <= low:
        return "rocprofv3 counter collection"
    if has_name and "kind" in low and "start_timestamp" in low:
        return "rocprofv3 kernel trace"
    if has_name and "kernelname" in low and {"index", "gpu-id"} & low:
        return "rocprof v1 results"
    if has_name and "dispatch_id" in low:
        return "rocprofiler-compute counters"
    if {"name", "calls", "totaldurationns"} <= low:
        return "rocprof kernel statistics"
    return None


class RocprofCsv:
    """Every table of the rocprof family that names kernels."""

    name = "rocprof_csv"

    def accepts(self, head: str) -> bool:
        """Return whether there is such a table."""
        return table.header_in(head, lambda cells: _kind_of(cells) is not None) is not None

    def read(self, report: Report) -> Profile:
        """Return the profile."""
        rows = table.rows(report, lambda cells: _kind_of(cells) is not None)
        header = next(rows)
        kind = _kind_of(header) or "rocprof"
        reader = _Rows(header, kind)
        missing: list[Missing] = []
        try:
            for row in rows:
                reader.row(row)
        except ReportError as error:
            missing.append(Missing("rest of the table", error.kind, error.message))
        reader.finish()
        if report.is_cut or reader.short_rows:
            missing.append(
                Missing("rest of the table", "truncated", f"the table ends early: {reader.short_rows} incomplete rows were left out")
            )
        if not len(reader.tally):
            raise ReportError(
                report.name, missing[0].kind if missing else "empty", f"a table of {kind} with a header and no kernel: nothing ran"
            )
        if reader.odd_kinds:
            missing.append(
                Missing("other records", "unsupported", f"{reader.odd_kinds:,} rows are not kernel dispatches and were left out")
            )
        return Profile(
            target="",
            device="AMD GPU",
            passes=(PassRecord("rocprof", kind, "partial" if missing else "collected", detail=report.name),),
            kernels=reader.tally.kernels(),
            host=tuple(reader.host()),
            missing=(*missing, *reader.tally.missing()),
        )


class _Rows:
    def __init__(self, header: Sequence[str], kind: str) -> None:
        self.tally = Tally()
        self.short_rows = 0
        self.odd_kinds = 0
        self._kind = kind
        self._columns = {name.lower(): index for index, name in reversed(list(enumerate(header)))}
        self._width = len(header)
        self._counters = _counter_columns(header)
        self._busy = Union()
        self._open: tuple[str, str] | None = None
        self._open_counters: dict[str, float] = {}
        self._open_row: Sequence[str] = ()

    def row(self, cells: Sequence[str]) -> None:
        """Take a row."""
        if len(cells) < self._width:
            self.short_rows += 1
        elif "calls" in self._columns and "totaldurationns" in self._columns:
            self._statistics(cells)
        elif "counter_name" in self._columns:
            self._long(cells)
        elif "kind" in self._columns and self._text(cells, "kind") != "KERNEL_DISPATCH":
            self.odd_kinds += 1
        else:
            counters = {}
            for name, indices in self._counters.items():
                found = [value for index in indices if (value := number(cells[index])) is not None]
                if found:
                    counters[name] = sum(found)
            self._launch(cells, counters)

    def finish(self) -> None:
        """Close the dispatch whose counters stand in several rows."""
        if self._open is not None:
            self._launch(self._open_row, self._open_counters)
        self._open, self._open_counters = None, {}

    def host(self) -> Iterable[Figure]:
        """Yield what is known of the device's time as a whole."""
        busy = self._busy.result()
        if busy is not None:
            source = f"{self._kind}: union of intervals"
            yield Figure("device_busy_us", busy.busy / 1e3, "us", source, "time")
            yield Figure("device_span_us", (busy.last - busy.first) / 1e3, "us", source, "time")
            yield Figure("device_idle_us", busy.idle / 1e3, "us", source, "time")

    def _statistics(self, cells: Sequence[str]) -> None:
        total, calls = number(self._text(cells, "totaldurationns")), number(self._text(cells, "calls"))
        if total is not None and calls is not None:
            self.tally.add(
                self._text(cells, "name"),
                [Observation("device_time_us", total / 1e3, "us", f"{self._kind} TotalDurationNs", "time")],
                launches=int(calls),
                weight=total / 1e3,
            )

    def _long(self, cells: Sequence[str]) -> None:
        key = (self._text(cells, "dispatch_id", "correlation_id"), self._text(cells, *_KERNEL_COLUMNS))
        if key != self._open:
            self.finish()
            self._open, self._open_row = key, cells
        name, value = _INSTANCE.sub(r"\g<counter>", self._text(cells, "counter_name")), number(self._text(cells, "counter_value"))
        if value is not None and name:
            self._open_counters[name] = self._open_counters.get(name, 0.0) + value

    def _launch(self, cells: Sequence[str], counters: Mapping[str, float]) -> None:
        observed = []
        begin, end = number(self._text(cells, *_BEGIN)), number(self._text(cells, *_END))
        length = (end - begin) / 1e3 if begin is not None and end is not None and end >= begin else None
        if length is None and (stated := number(self._text(cells, "durationns"))) is not None:
            length = stated / 1e3
        if length is not None:
            observed.append(Observation("device_time_us", length, "us", f"{self._kind} timestamps", "time"))
            observed.append(Observation("longest_launch_us", length, "us", f"{self._kind} timestamps", "time", "max"))
        if begin is not None and end is not None:
            self._busy.add(begin, end)
        for names, figure in _RESOURCES:
            value = number(self._text(cells, *names)) if any(name in self._columns for name in names) else self._extent(cells, figure)
            if value is not None:
                observed.append(
                    Observation(figure, value, "bytes" if figure.endswith("bytes") else "1", f"{self._kind} {names[0]}", "resource", "max")
                )
        observed += _counter_figures(counters, self._kind)
        self.tally.add(_plain_name(self._text(cells, *_KERNEL_COLUMNS)), observed, weight=length or 1.0)

    def _extent(self, cells: Sequence[str], figure: str) -> float | None:
        prefix = {"block_size": "workgroup_size", "threads": "grid_size"}.get(figure)
        if prefix is None or f"{prefix}_x" not in self._columns:
            return None
        product = 1.0
        for axis in "xyz":
            product *= number(self._text(cells, f"{prefix}_{axis}")) or 1.0
        return product

    def _text(self, cells: Sequence[str], *names: str) -> str:
        for name in names:
            index = self._columns.get(name)
            if index is not None and index < len(cells):
                return cells[index]
        return ""


def _counter_columns(header: Sequence[str]) -> dict[str, list[int]]:
    """Return the columns of each counter: one, or one for each instance. A counter that several passes measured counts once."""
    found: dict[str, list[int]] = {}
    names: set[str] = set()
    for index, name in enumerate(header):
        if _NOT_COUNTERS.fullmatch(name) or name in names:
            continue
        instance = _INSTANCE.fullmatch(name)
        base = instance["counter"] if instance else name
        if not instance and (not _COUNTER.fullmatch(base) or (_SUFFIX.sub("", base) in names and base not in names)):
            continue
        names.add(name)
        found.setdefault(base, []).append(index)
    return found


def _counter_figures(counters: Mapping[str, float], tool: str) -> list[Observation]:
    def get(*names: str) -> float | None:
        for name in names:
            for spelling in (name, f"{name}_sum"):
                if spelling in counters:
                    return counters[spelling]
        return None

    observed = []
    read, source = _read_bytes(get)
    if read is not None:
        observed.append(Observation("dram_read_bytes", read, "bytes", f"{tool} {source}", "traffic"))
    written, source = _written_bytes(get)
    if written is not None:
        observed.append(Observation("dram_write_bytes", written, "bytes", f"{tool} {source}", "traffic"))
    hits, misses = get("TCC_HIT"), get("TCC_MISS")
    if hits is not None and misses is not None and hits + misses > 0:
        observed.append(
            Observation("l2_hit_fraction", hits / (hits + misses), "fraction", f"{tool} TCC_HIT / (TCC_HIT + TCC_MISS)", "rate", "mean")
        )
    conflicts, active = get("SQ_LDS_BANK_CONFLICT"), get("SQ_LDS_IDX_ACTIVE")
    if conflicts is not None:
        observed.append(Observation("shared_bank_conflicts", conflicts, "1", f"{tool} SQ_LDS_BANK_CONFLICT", "traffic"))
    if active is not None:
        observed.append(Observation("shared_wavefronts", active, "1", f"{tool} SQ_LDS_IDX_ACTIVE", "traffic"))
    atomics = get("TCC_ATOMIC")
    if atomics is not None:
        observed.append(Observation("atomic_requests", atomics, "1", f"{tool} TCC_ATOMIC", "traffic"))
    for counter, name in _INSTRUCTIONS.items():
        if (value := get(counter)) is not None:
            observed.append(Observation(name, value, "1", f"{tool} {counter}", "instruction"))
    for counter, name in _STALLS.items():
        if (value := get(counter)) is not None:
            observed.append(Observation(name, value, "cycles", f"{tool} {counter}", "stall"))
    return [*observed, *(Observation(name, value, "1", f"{tool} {name}") for name, value in counters.items())]


def _read_bytes(get: Callable[..., float | None]) -> tuple[float | None, str]:
    stated = get("FETCH_SIZE", "FetchSize")
    if stated is not None:
        return stated * 1024.0, "FETCH_SIZE × 1024"
    requests, small, large = get("TCC_EA0_RDREQ", "TCC_EA_RDREQ"), get("TCC_EA0_RDREQ_32B", "TCC_EA_RDREQ_32B"), get("TCC_BUBBLE") or 0.0
    if requests is None or small is None:
        return None, ""
    return 128.0 * large + 64.0 * max(
        requests - large - small, 0.0
    ) + 32.0 * small, "read requests: 32 × RDREQ_32B + 128 × BUBBLE + 64 × the rest"


def _written_bytes(get: Callable[..., float | None]) -> tuple[float | None, str]:
    stated = get("WRITE_SIZE", "WriteSize")
    if stated is not None:
        return stated * 1024.0, "WRITE_SIZE × 1024"
    requests, large = get("TCC_EA0_WRREQ", "TCC_EA_WRREQ"), get("TCC_EA0_WRREQ_64B", "TCC_EA_WRREQ_64B")
    if requests is None or large is None:
        return None, ""
    return 64.0 * large + 32.0 * max(requests - large, 0.0), "write requests: 64 × WRREQ_64B + 32 × the rest"


def _plain_name(name: str) -> str:
    """Return a kernel's name without the suffix of its descriptor."""
    return re.sub(r"\s*(?:\[clone \.kd\]|\(\.kd\)|\.kd)$", "", name)
