"""Causes are named from the figures that show them; what cannot be told is said; planted faults are found in the binary."""

from __future__ import annotations

import pytest
import reports

from tools.compile.job import Job
from tools.compile.server import CompileServer
from tools.profiling.compiled import profile_of_report
from tools.profiling.derive import against_peaks
from tools.profiling.formats.registry import read_profile_bytes
from tools.profiling.merge import agreements, bare_name, merged
from tools.profiling.planted.__main__ import place_of
from tools.profiling.planted.kernels import PLANTED
from tools.profiling.rules import RULES, STATIC, diagnose_profile
from tools.profiling.static import with_static_mix
from tools.profiling.types import Figure, KernelProfile, Profile
from tools.targets.base import CompileReport, TimeEstimate
from tools.targets.registry import get_target
from tools.types import Evidence

LIMITS = {name: limit.value for name, limit in get_target("cuda:sm_90").limits().items()}


def profile(limiter: str = "", launches: int = 1, **figures: float) -> Profile:
    made = tuple(
        Figure(name, value, "1", "test", "stall" if name.startswith("stall_") else "other")
        for name, value in {"device_time_us": 1000.0, **figures}.items()
    )
    return Profile("cuda:sm_90", kernels=(KernelProfile("k", launches=launches, figures=made, limiter=limiter),))


@pytest.mark.parametrize(
    ("cause", "figures"),
    [
        ("register_spills", {"spill_bytes": 256}), ("register_spills", {"local_load_requests": 500, "global_load_requests": 1000}), ("uncoalesced_access", {"sectors_per_load_request": 32}),
        ("uncoalesced_access", {"global_load_bytes_per_sector": 4}), ("low_occupancy", {"occupancy_fraction": 0.1}), ("bank_conflicts", {"bank_conflict_fraction": 0.8, "shared_bank_conflicts": 1e6}),
        ("too_few_programs", {"grid_size": 8}), ("uneven_work", {"imbalance_fraction": 0.8}), ("uneven_work", {"waves": 1.1}), ("dram_bandwidth", {"dram_peak_fraction": 0.9}),
        ("redundant_traffic", {"dram_bytes": 100e6, "tensor_bytes": 10e6}), ("matrix_bound", {"tensor_pipe_fraction": 0.8}), ("no_matrix_unit", {"static_dots": 1, "num_matrix_kinds": 0}),
        ("single_stage_pipeline", {"num_matrix_kinds": 1, "static_async_copies": 0, "static_global_loads": 4, "static_loops": 1}), ("float64_arithmetic", {"static_float64": 20}),
        ("needless_conversions", {"static_conversions": 64, "static_arithmetic": 32}), ("atomics", {"atomic_sectors": 1e6}), ("integer_divisions", {"static_divisions": 8, "static_instructions": 300}),
        ("special_functions", {"static_special": 64, "static_arithmetic": 64}), ("waits_for_barriers", {"stall_barrier": 9.0, "stall_wait": 1.0}), ("waits_for_memory", {"stall_long_scoreboard": 20.0, "stall_wait": 2.0}),
        ("waits_for_shared_memory", {"stall_short_scoreboard": 9.0, "stall_wait": 1.0}), ("latency_bound", {"memory_peak_fraction": 0.1, "compute_peak_fraction": 0.1}), ("issue_bound", {"issue_active_fraction": 0.9}),
        ("divergence", {"active_threads_per_warp": 8}), ("narrow_loads", {"widest_load_bytes": 2, "narrowest_load_bytes": 2}),
    ],
)  # fmt: skip
def test_a_cause_is_named_with_its_evidence(cause: str, figures: dict[str, float]) -> None:
    found = diagnose_profile(profile(**figures), LIMITS)
    assert found.dominant is not None
    assert found.dominant.name == cause
    assert found.dominant.evidence and found.dominant.questions
    assert any(name in text for name in figures for text in found.dominant.evidence)


@pytest.mark.parametrize(
    "figures",
    [
        {}, {"spill_bytes": 0}, {"sectors_per_load_request": 16}, {"sectors_per_load_request": 4}, {"global_load_bytes_per_sector": 32}, {"occupancy_fraction": 0.6}, {"grid_size": 5000}, {"waves": 12.1},
        {"bank_conflict_fraction": 0.01, "shared_bank_conflicts": 10}, {"static_float64": 0}, {"static_conversions": 4, "static_arithmetic": 200}, {"static_dots": 2, "num_matrix_kinds": 1},
        {"occupancy_fraction": 0.2, "tensor_pipe_fraction": 0.5}, {"stall_barrier": 0.1, "stall_wait": 3.0}, {"static_atomics": 0}, {"dram_bytes": 11e6, "tensor_bytes": 10e6},
    ],
)  # fmt: skip
def test_a_healthy_kernel_has_no_such_cause(figures: dict[str, float]) -> None:
    assert diagnose_profile(profile(**figures), LIMITS).causes == ()


def test_a_rule_without_its_figures_says_that_it_cannot_tell() -> None:
    found = diagnose_profile(profile(spill_bytes=512), LIMITS)
    assert "register_spills" not in found.cannot_tell
    assert {"bank_conflicts", "dram_bandwidth", "waits_for_barriers"} <= set(found.cannot_tell)


def test_a_cause_in_a_short_kernel_weighs_less_than_one_in_a_long_kernel() -> None:
    kernels = tuple(
        KernelProfile(
            name,
            launches=1,
            figures=(Figure("device_time_us", time, "us", "t", "time"), Figure("sectors_per_load_request", sectors, "1", "t")),
        )
        for name, time, sectors in (("short", 10.0, 32.0), ("long", 990.0, 20.0))
    )
    found = diagnose_profile(Profile("cuda:sm_90", kernels=kernels), LIMITS)
    assert [cause.kernel for cause in found.causes] == ["long", "short"]


def test_gaps_between_launches_are_launch_overhead() -> None:
    events = [reports.trace_event("tiny", "kernel", index * 12.0, 2.0) for index in range(50)]
    found = diagnose_profile(read_profile_bytes(reports.kineto(*events), "t"), LIMITS)
    assert found.dominant is not None
    assert found.dominant.name == "launch_bound"
    assert found.dominant.weight == pytest.approx(10 / 12, abs=0.02)


def test_every_static_rule_reads_only_what_compiling_gives() -> None:
    static = {rule.name for rule in RULES if rule.is_static}
    assert {"register_spills", "low_occupancy", "narrow_loads", "no_matrix_unit", "single_stage_pipeline", "float64_arithmetic"} <= static
    assert {planted.cause for planted in PLANTED if planted.is_static} <= static
    assert not {planted.cause for planted in PLANTED if not planted.is_static} & static
    assert not {"device_time_us", "dram_bytes"} & STATIC


def test_rates_are_held_against_the_documents_peaks() -> None:
    found = against_peaks(profile(dram_gb_per_s=335.0), LIMITS, "cuda:sm_90").kernels[0].figure("dram_of_peak_fraction")
    assert found is not None
    assert found.value == pytest.approx(335.0 / LIMITS["dram_gb_per_s"])
    assert "cuda:sm_90" in found.source


def test_an_estimate_of_the_model_is_marked_as_simulated() -> None:
    estimate = TimeEstimate(
        "k", 1.0, 2.0, 3.0, "dma", {"dma_utilisation": 0.9, "dot_utilisation": 0.1, "dram_bytes": 1e6, "stall_fraction": 0.1, "waves": 2.0}
    )
    found = profile_of_report(CompileReport("mtia:2i", "compiled", estimates=(estimate,)))
    assert {figure.evidence for figure in found.kernels[0].figures} == {Evidence.SIMULATED}
    diagnosis = diagnose_profile(found, {})
    assert diagnosis.dominant is not None
    assert (diagnosis.dominant.name, diagnosis.dominant.seen_by) == ("busiest_unit", Evidence.SIMULATED)


def test_passes_merge_by_kernel_and_keep_every_source() -> None:
    trace, counters = read_profile_bytes(reports.GPU_TRACE, "t"), read_profile_bytes(reports.NCU_RAW.encode(), "n")
    found = merged([trace, counters])
    gemm = found.kernel("gemm")
    assert gemm is not None
    assert [figure.value for figure in gemm.figures if figure.name == "device_time_us"] == [80.0, 2000.0]
    assert gemm.value("dram_read_bytes") == 6e6
    worst = agreements(found)[0]
    assert (worst.name, worst.agrees) == ("device_time_us", False)
    assert "Nsight Compute" in worst.explanation
    assert [record.name for record in found.passes] == ["torch", "ncu"]


def test_sums_of_a_pass_with_other_launches_are_scaled_and_say_so() -> None:
    trace, counters = read_profile_bytes(reports.GPU_TRACE, "t"), read_profile_bytes(reports.PROTON_TREE.encode(), "p")
    gemm = merged([trace, counters]).kernel("gemm")
    assert gemm is not None
    assert gemm.launches == 2
    scaled = next(figure for figure in gemm.figures if figure.source.startswith("proton") and figure.name == "device_time_us")
    assert scaled.value == 100.0
    assert "of 4 launches" in scaled.source


@pytest.mark.parametrize(("name", "bare"), [("void gemm<float, 4>(int*)", "gemm"), ("softmax_kernel_0d1d2de", "softmax_kernel"), ("scale(float*, int)", "scale"), ("(anonymous namespace)::f", "(anonymous namespace)::f")])  # fmt: skip
def test_kernels_are_the_same_by_their_bare_names(name: str, bare: str) -> None:
    assert bare_name(name) == bare


@pytest.mark.slow
def test_planted_faults_that_the_binary_shows_are_named_and_the_others_are_not_claimed() -> None:
    with CompileServer() as server:
        for planted in PLANTED:
            report = server.compile(
                Job(planted.candidate.source, "cuda:sm_90", LIMITS, problem=planted.problem.source, emit="ptx"), timeout_s=250
            )
            assert report.status == "compiled", (planted.name, report.error)
            found = diagnose_profile(with_static_mix(profile_of_report(report), report, planted.candidate.source), LIMITS)
            if planted.is_static:
                assert place_of(planted.cause, found) == 1, (planted.name, [cause.name for cause in found.causes])
            else:
                assert place_of(planted.cause, found) is None, planted.name
                assert planted.cause in found.cannot_tell or planted.cause == "launch_bound", planted.name


def test_time_that_no_operator_accounts_for_is_the_candidates_own_code() -> None:
    empty = KernelProfile("aten::empty", launches=20, kind="operator", figures=(Figure("host_self_time_us", 480.0, "us", "t", "time"),))
    hidden = Profile("cpu", kernels=(empty,), host=(Figure("host_busy_us", 200_000.0, "us", "t", "time"),))
    assert [cause.name for cause in diagnose_profile(hidden, {}).causes] == ["own_code"]
    seen = Profile("cpu", kernels=(empty,), host=(Figure("host_busy_us", 500.0, "us", "t", "time"),))
    assert [cause.name for cause in diagnose_profile(seen, {}).causes] == ["dominant_operator"]
