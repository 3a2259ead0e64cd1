"""Each importer against hand-calculated sums; damage, emptiness and foreign versions give a typed reason."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator

import pytest
import reports

from tools.profiling.errors import ReportError
from tools.profiling.formats.registry import format_of, read_profile, read_profile_bytes
from tools.profiling.types import Profile


def read(text: str | bytes, name: str = "report") -> Profile:
    return read_profile_bytes(text.encode() if isinstance(text, str) else text, name)


def values(profile: Profile, kernel: str) -> dict[str, float]:
    found = profile.kernel(kernel)
    assert found is not None
    return {figure.name: figure.value for figure in found.figures}


ALL = {
    "ncu_csv": [reports.NCU_DETAILS, reports.NCU_RAW, reports.european(reports.NCU_RAW)],
    "rocprof_csv": [reports.ROCPROFV3_TRACE, reports.ROCPROFV3_COUNTERS, reports.ROCPROF_V1, reports.PMC_PERF],
    "chrome_trace": [reports.GPU_TRACE.decode(), json.dumps([reports.trace_event("k", "kernel", 0, 1)])],
    "proton_tree": [reports.PROTON_TREE, reports.PROTON_REGIONS],
}


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, texts in ALL.items() for text in texts])
def test_a_format_is_known_by_its_content(name: str, text: str) -> None:
    found = format_of(text)
    assert found is not None
    assert found.name == name


@pytest.mark.parametrize("text", ["# A document\n\nwith text, commas; and such\n", '{"cells": [], "nbformat": 4}', "a,b,c\n1,2,3\n", "[1, 2, 3]", '{"x": 1}', '[{"name": "x"}]'])  # fmt: skip
def test_other_texts_are_of_no_format(text: str) -> None:
    assert format_of(text) is None
    with pytest.raises(ReportError) as raised:
        read(text)
    assert raised.value.kind == "unknown_format"


@pytest.mark.parametrize("text", [text for texts in ALL.values() for text in texts])
def test_a_record_survives_json(text: str) -> None:
    profile = read(text)
    assert Profile.from_json(json.loads(json.dumps(profile.to_json()))) == profile
    assert read(json.dumps(profile.to_json())).kernels == profile.kernels


@pytest.mark.parametrize("text", [text for texts in ALL.values() for text in texts])
def test_every_figure_names_its_source(text: str) -> None:
    profile = read(text)
    assert all(figure.source for kernel in profile.kernels for figure in kernel.figures)
    assert all(figure.source for figure in profile.host)


def test_details_page_sums_durations_and_weighs_fractions_by_time() -> None:
    profile = read(reports.NCU_DETAILS)
    found = values(profile, "add_kernel")
    assert [(kernel.name, kernel.launches) for kernel in profile.kernels] == [("add_kernel", 2), ("other_kernel", 1)]
    assert found["device_time_us"] == 4000.0
    assert found["memory_peak_fraction"] == pytest.approx((0.8 * 1000 + 0.4 * 3000) / 4000)
    assert found["occupancy_fraction"] == pytest.approx(0.7)
    assert found["dram_bytes_per_s"] == 2e9
    assert found["grid_size"] == 20
    assert values(profile, "other_kernel")["device_time_us"] == 0.5


def test_details_page_keeps_limiter_target_remarks_and_what_has_no_value() -> None:
    profile = read(reports.NCU_DETAILS)
    kernel = profile.kernels[0]
    assert kernel.limiter == "warps"
    assert profile.target == "cuda:sm_90"
    assert kernel.remarks == ("CPIStall: CPIStall says so",)
    assert [(item.kind, "dram__bytes_read.sum" in item.reason) for item in profile.missing] == [("unsupported", True)]


def test_raw_page_reads_units_from_the_row_below_the_header() -> None:
    found = values(read(reports.NCU_RAW), "gemm")
    assert found["device_time_us"] == 2000.0
    assert found["dram_read_bytes"] == 6e6
    assert found["dram_write_bytes"] == 2e6
    assert found["dram_bytes"] == 8e6
    assert found["dram_gb_per_s"] == pytest.approx(8e6 / 2000e-6 / 1e9)
    assert found["sectors_per_load_request"] == 24.0
    assert found["stall_long_scoreboard"] == 5.0
    assert found["occupancy_fraction"] == 0.5
    assert found["vector_flops_per_s"] == pytest.approx(4e6 / 2000e-6)
    assert read(reports.NCU_RAW).kernels[0].limiter == "registers"


def test_decimal_commas_and_points_for_thousands_mean_the_same() -> None:
    assert values(read(reports.european(reports.NCU_RAW)), "gemm") == values(read(reports.NCU_RAW), "gemm")


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("", "empty"),
        ("  \n\n", "empty"),
        (reports.NCU_HEAD, "empty"),
        ('==PROF== Connected to process 7\n==WARNING== No kernels were profiled.\n', "empty"),
        ("==PROF== Connected\n==ERROR== ERR_NVGPUCTRPERM - The user does not have permission to access NVIDIA GPU Performance Counters\n", "no_permission"),
        ("==PROF== Connected\n==ERROR== The application returned an error code (1).\n", "failed"),
        (reports.ROCPROFV3_TRACE.split("\n")[0], "empty"),
        ("Dispatch_ID,Kernel_Name\n", "empty"),
        (reports.PROTON_TREE[:-40], "truncated"),
        (json.dumps([{"frame": {"name": "ROOT"}, "metrics": {}, "children": []}, {}]), "empty"),
        (reports.GPU_TRACE[:300].decode(), "truncated"),
        ('{"schema": "kevolve-profile", "version": 99, "target": ""}', "foreign_version"),
        ('{"schema": "kevolve-profile", "version": 1, "target": "x", "kernels": [{"name": 3, "figures": [{}]}]}', "foreign_version"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_gives_a_typed_reason(text: str, kind: str) -> None:
    with pytest.raises(ReportError) as raised:
        read(text)
    assert raised.value.kind == kind
    assert str(raised.value).startswith("report: ")


def test_a_binary_report_is_refused_with_the_command_that_exports_it() -> None:
    with pytest.raises(ReportError, match="ncu --import"):
        read(b"NVR\0\1\2" * 50)


def test_a_cut_table_gives_what_stands_before_the_cut() -> None:
    profile = read(reports.NCU_RAW[: reports.NCU_RAW.rindex('"4.00"') + 3])
    assert values(profile, "gemm")["dram_read_bytes"] == 2e6
    assert [item.kind for item in profile.missing] == ["truncated"]


def test_rocprofv3_trace_sums_launches_and_leaves_out_other_records() -> None:
    profile = read(reports.ROCPROFV3_TRACE)
    found = values(profile, "scale(float*, int)")
    assert profile.kernels[0].launches == 2
    assert found["device_time_us"] == 30.0
    assert found["longest_launch_us"] == 20.0
    assert found["threads"] == 8192
    assert found["scratch_bytes"] == 64
    assert profile.host_value("device_idle_us") == 5.0
    assert [item.kind for item in profile.missing] == ["unsupported"]


def test_rocprofv3_counters_of_one_dispatch_stand_in_several_rows() -> None:
    profile = read(reports.ROCPROFV3_COUNTERS)
    found = values(profile, "scale(float*, int)")
    assert profile.kernels[0].launches == 2
    assert found["dram_read_bytes"] == 4096 * 1024
    assert found["l2_hit_fraction"] == 0.6
    assert found["device_time_us"] == 30.0


def test_rocprof_v1_results_have_times_and_counters() -> None:
    found = values(read(reports.ROCPROF_V1), "scale(float*, int)")
    assert found["device_time_us"] == 30.0
    assert found["instructions_valu"] == 10240
    assert found["waves_launched"] == 256


def test_pmc_perf_sums_instances_and_counts_a_repeated_counter_once() -> None:
    found = values(read(reports.PMC_PERF), "scale(float*, int)")
    assert found["waves_launched"] == 256
    assert found["dram_read_bytes"] == 2 * (64 * 160 + 32 * 40)
    assert found["stall_any_cycles"] == 1800


@pytest.mark.parametrize("data", [reports.GPU_TRACE, reports.gzipped(reports.GPU_TRACE)], ids=["plain", "gz"])
def test_a_trace_gives_kernels_host_times_and_gaps(data: bytes) -> None:
    profile = read(data)
    gemm = values(profile, "gemm")
    assert gemm["device_time_us"] == 80.0
    assert gemm["registers_per_thread"] == 90
    assert gemm["grid_size"] == 16
    assert [(kernel.name, kernel.launches) for kernel in profile.kernels if kernel.kind == "kernel"] == [("gemm", 2), ("relu", 1)]
    assert profile.device_time_us == 110.0
    assert profile.host_value("device_busy_us") == 110.0
    assert profile.host_value("device_idle_us") == 40.0
    assert profile.host_value("longest_device_gap_us") == 20.0
    assert (profile.host_value("num_launches"), profile.host_value("launch_time_us"), profile.host_value("sync_time_us")) == (
        2.0,
        12.0,
        90.0,
    )
    assert (profile.target, profile.device) == ("cuda:sm_90", "A chip")


def test_own_time_of_an_operator_is_without_its_children() -> None:
    profile = read(reports.GPU_TRACE)
    assert values(profile, "aten::linear")["host_self_time_us"] == 40.0
    assert values(profile, "aten::mm")["host_self_time_us"] == 60.0
    assert [(region.name, region.time.value) for region in profile.regions] == [("step", 500.0)]


@pytest.mark.parametrize("share", [0.5, 0.8, 0.97])
def test_a_cut_trace_gives_the_events_before_the_cut(share: float) -> None:
    data = reports.GPU_TRACE[: int(len(reports.GPU_TRACE) * share)]
    profile = read(data)
    assert [item.kind for item in profile.missing] == ["truncated"]
    assert profile.passes[0].status == "partial"
    assert 0 < (profile.timeline.num_events if profile.timeline else 0) < 10


def test_a_cut_archive_gives_the_events_before_the_cut() -> None:
    many = reports.kineto(
        *(reports.trace_event(f"k{number % 7}", "kernel", number * 10.0 + number % 3, 5.5 + number % 11) for number in range(4000))
    )
    data = reports.gzipped(many)
    profile = read(data[: len(data) // 2])
    assert "truncated" in [item.kind for item in profile.missing]
    assert sum(kernel.launches for kernel in profile.kernels) > 100


class EndlessTrace:
    """A trace of a given number of events that exists only while it is read."""

    def __init__(self, num_events: int) -> None:
        self._pieces = self._make(num_events)
        self._rest = b""

    def _make(self, num_events: int) -> Iterator[bytes]:
        yield b'{"schemaVersion": 1, "traceEvents": [\n'
        for block in itertools.count():
            first = block * 1000
            if first >= num_events:
                break
            lines = [
                json.dumps(reports.trace_event(f"kernel_{number % 50}", "kernel", number * 2.0, 1.0))
                for number in range(first, min(first + 1000, num_events))
            ]
            yield (("" if block == 0 else ",") + ",\n".join(lines)).encode()
        yield b"]}"

    def read(self, size: int = -1) -> bytes:
        while len(self._rest) < size:
            piece = next(self._pieces, b"")
            if not piece:
                break
            self._rest += piece
        data, self._rest = self._rest[:size], self._rest[size:]
        return data


@pytest.mark.slow
def test_a_large_trace_is_read_in_bounded_memory() -> None:
    import tracemalloc

    def peak(num_events: int) -> tuple[int, Profile]:
        tracemalloc.start()
        profile = read_profile(EndlessTrace(num_events), "large.json")  # type: ignore[arg-type]  # only read() is needed
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most, profile

    large, profile = peak(40000)
    assert sum(kernel.launches for kernel in profile.kernels) == 40000
    assert profile.timeline is not None
    assert (len(profile.timeline.events), profile.timeline.num_events) == (1000, 40000)
    assert large < 25e6  # 40,000 events are 5 MB of text and would be 60 MB as objects


def test_proton_tree_gives_kernels_and_scopes() -> None:
    profile = read(reports.PROTON_TREE)
    found = values(profile, "gemm")
    assert found["device_time_us"] == 200.0
    assert profile.kernels[0].launches == 4
    assert found["stated_flops16"] == 1000
    assert [(region.path, region.time.value) for region in profile.regions] == [(("layer",), 250.0)]
    assert profile.target == "cuda:sm_90"


def test_proton_instrumentation_gives_regions_inside_a_kernel() -> None:
    profile = read(reports.PROTON_REGIONS)
    assert [(region.kernel, region.name, region.share) for region in profile.regions] == [("gemm", "load", 0.75), ("gemm", "dot", 0.25)]
    assert profile.target == "rocm:gfx950"


def test_proton_cycles_in_a_trace_are_regions() -> None:
    pid = "gemm Core3 CTA1 [measure in clock cycle (assume 1GHz)]"
    events = [
        {"ph": "X", "cat": "gemm", "name": name, "pid": pid, "tid": "warp 0 (line 0)", "ts": 0.0, "dur": length}
        for name, length in (("load", 0.3), ("dot", 0.1))
    ]
    profile = read(json.dumps({"displayTimeUnit": "ns", "traceEvents": events}))
    assert [(region.name, region.time.value, region.share) for region in profile.regions] == [
        ("load", pytest.approx(300.0), pytest.approx(0.75)),
        ("dot", pytest.approx(100.0), pytest.approx(0.25)),
    ]


def test_a_real_trace_of_torch_is_read(tmp_path: object) -> None:
    import pathlib

    import torch
    from torch.profiler import ProfilerActivity, profile, record_function

    path = pathlib.Path(str(tmp_path)) / "trace.json.gz"
    left = torch.ones(32, 32)
    with profile(activities=[ProfilerActivity.CPU]) as profiler, record_function("step"):
        torch.softmax(left @ left, -1)
    profiler.export_chrome_trace(str(path))
    found = read(path.read_bytes(), path.name)
    by_torch = {event.key: event for event in profiler.key_averages()}
    for kernel in found.kernels:
        assert kernel.launches == by_torch[kernel.name].count
        assert kernel.value("host_self_time_us") == pytest.approx(by_torch[kernel.name].self_cpu_time_total, rel=0.05, abs=2.0)
    assert {"aten::mm", "aten::_softmax"} <= {kernel.name for kernel in found.kernels}
    assert [region.name for region in found.regions] == ["step"]
