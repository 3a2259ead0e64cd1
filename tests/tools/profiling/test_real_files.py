"""Files that the tools really wrote on an H100 (Nsight Compute raw pages, a Proton tree, a trace of torch.profiler, clocks of a GEMM): read, merged and judged."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from evaluation.profiling.cases import region_cases
from tools.profiling.derive import with_derived
from tools.profiling.formats.registry import read_profile_file
from tools.profiling.merge import agreements, merged
from tools.profiling.multipass import measured_regions, study_of
from tools.profiling.rules import diagnose_profile

FILES = Path(__file__).with_name("h100")


def test_a_raw_page_keeps_what_rules_need_of_its_841_columns() -> None:
    found = read_profile_file(FILES / "bank_conflicts.ncu.csv.gz")
    kernel = found.kernel("kernel")
    assert kernel is not None
    assert found.target == "cuda:sm_90"
    assert "figures" not in {item.what for item in found.missing}
    wanted = {"device_time_us": 281.056, "dram_read_bytes": 16791808.0, "l2_bytes": 53167392.0, "stall_barrier": 27.79, "stall_mio_throttle": 96.34, "tensor_pipe_fraction": 0.0, "active_cycles_min": 479994.0}  # fmt: skip
    assert {name: kernel.value(name) for name in wanted} == pytest.approx(wanted)
    assert not any(figure.name.startswith(("device__", "nvlink")) for figure in kernel.figures)
    assert diagnose_profile(found, {}).dominant.name == "bank_conflicts"  # type: ignore[union-attr]  # it is there


def test_kernels_of_a_compiled_convolution_are_four() -> None:
    found = read_profile_file(FILES / "conv2d.ncu.csv.gz")
    times = {kernel.name.partition("_tilesize")[0]: kernel.time_us / kernel.launches for kernel in found.kernels}
    assert len(times) == 4
    assert times["sm90_xmma_fprop_implicit_gemm_f16f16_f16f32_f32_nhwckrsc_nhwc"] == pytest.approx(65.7, rel=0.01)
    assert {name for name in times if name.startswith("triton_poi_fused")} == set(times) - {
        "sm90_xmma_fprop_implicit_gemm_f16f16_f16f32_f32_nhwckrsc_nhwc"
    }


def test_a_tree_of_proton_on_the_h100() -> None:
    found = read_profile_file(FILES / "softmax.hatchet.gz")
    assert (found.target, [(kernel.name, kernel.launches) for kernel in found.kernels]) == ("cuda:sm_90", [("softmax_kernel", 10)])
    assert found.kernels[0].time_us / 10 == pytest.approx(91.1, rel=0.01)
    assert "candidate" in {region.name for region in found.regions}


def test_launches_that_outlast_their_kernels_are_named() -> None:
    found = diagnose_profile(read_profile_file(FILES / "launch_bound.trace.json.gz"), {})
    assert found.dominant is not None
    assert found.dominant.name == "launch_bound"
    assert "122 launches" in found.dominant.evidence[1]


def test_the_regions_of_a_two_stage_gemm_add_up_to_it() -> None:
    measured = json.loads(gzip.decompress((FILES / "gemm_variants.json.gz").read_bytes()))
    gemm = next(case for case in region_cases() if case.name == "gemm")
    found = measured_regions("cuda:sm_90", study_of(gemm.source, "cuda:sm_90"), measured, [])
    assert found.host_value("clocks_sum_fraction") == pytest.approx(1.0, abs=0.05)
    base = found.host_value("clocks_base_us")
    assert base is not None
    outer = [region for region in found.regions if region.time.source.startswith("multi-pass clocks") and len(region.path) == 2]
    assert sum(region.time.value for region in outer) == pytest.approx(base, rel=0.05)
    assert max(outer, key=lambda region: region.time.value).name.startswith("loop@")


def test_two_tools_on_one_kernel_are_compared() -> None:
    tree = read_profile_file(FILES / "softmax.hatchet.gz")
    found = agreements(with_derived(merged([tree, read_profile_file(FILES / "bank_conflicts.ncu.csv.gz")])))
    assert found == ()  # different kernels are not
