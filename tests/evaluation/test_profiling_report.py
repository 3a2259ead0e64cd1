"""The report on the profilers says what the records hold: agreement within a bound or the reason, sums of regions, slowed places, routes, planted faults."""

from __future__ import annotations

import json
from pathlib import Path

from evaluation.profiling.cases import kernel_cases
from evaluation.profiling.planted_report import planted_lines
from evaluation.profiling.report import localised, main, profiles_of, report_lines, time_of
from tools.profiling.types import Figure, KernelProfile, PassRecord, Profile, Region


def figure(name: str, value: float, source: str, unit: str = "us") -> Figure:
    return Figure(name, value, unit, source, "time")


def kernel(torch: float, ncu: float | None, proton: float | None) -> KernelProfile:
    found = [figure("device_time_us", torch, "torch.profiler dur")]
    found += [figure("device_time_us", ncu, "ncu gpu__time_duration.sum (of 1 launches, scaled)")] if ncu is not None else []
    found += [figure("device_time_us", proton, "proton time")] if proton is not None else []
    return KernelProfile(
        "k", launches=10, figures=(*found, figure("dram_bytes", 1e7, "derived: dram_read_bytes + dram_write_bytes", "bytes"))
    )


def regions(base: float, **shares: float) -> Profile:
    made = tuple(Region(f"{name}@1", ("k", f"{name}@1"), "k", figure("time_us", share * base, "multi-pass clocks: …"), share) for name, share in shares.items())  # fmt: skip
    total = figure("clocks_sum_fraction", sum(shares.values()), "multi-pass clocks of k: sum over 3 passes", "fraction")
    return Profile("cuda:sm_90", host=(figure("clocks_base_us", base, "multi-pass"), total), regions=made)


def records(*items: tuple[str, str, Profile]) -> list[dict[str, object]]:
    made = [{"part": part, "name": name, "least_bytes": 1000000, "profile": profile.to_json()} for part, name, profile in items]
    return [{"part": "machine", "calls": 10, "device": "a device", "torch": "2", "triton": "3"}, *made]


def test_a_difference_beyond_the_bound_is_marked_and_one_within_is_not() -> None:
    text = "\n".join(report_lines(records(("kernels", "softmax", Profile("t", kernels=(kernel(1000.0, 1400.0, 1010.0),))))))
    assert "| softmax | 1 | 100.0 | 101.0 | 140.0 | - | +1.0% | +40.0%, beyond the bound |" in text
    assert "| softmax | 1.0 | - | 1.0 | - | 1.00 | agrees |" in text


def test_a_time_is_given_only_if_the_tool_saw_every_kernel() -> None:
    profile = Profile("t", kernels=(kernel(10.0, 20.0, None), kernel(10.0, None, None)))
    assert (time_of(profile, "torch.profiler", 10), time_of(profile, "ncu", 10), time_of(profile, "proton", 10)) == (2.0, None, None)


def test_a_study_that_was_cut_is_reported_from_its_passes() -> None:
    passes = [{"part": "kernels", "name": "gemm", "pass": "torch", "profile": Profile("t", passes=(PassRecord("torch", "x", "collected"),), kernels=(kernel(50.0, None, None),)).to_json()}]  # fmt: skip
    found = profiles_of(passes, "kernels")
    assert [item.name for item in found["gemm"].passes] == ["torch"]
    assert "| gemm | 10 | 50.0 |" in "\n".join(report_lines(passes))


def test_sums_of_regions_are_held_against_the_bound() -> None:
    text = "\n".join(report_lines(records(("regions", "gemm", regions(100.0, rest=0.02, loop=0.9, store=0.06)), ("regions", "layer_norm", regions(50.0, load=0.5, sum=0.3)))))  # fmt: skip
    assert "| gemm (study) | 100.0 | rest@1 2%, loop@1 90%, store@1 6% | 0.980 | within the bound | 0 |" in text
    assert "0.800 | beyond the bound" in text


def test_a_slowed_place_is_localised_only_if_its_region_grew_most() -> None:
    plain, slowed = regions(100.0, rest=0.1, loop=0.8, store=0.1), regions(200.0, rest=0.05, loop=0.45, store=0.5)
    assert localised(plain, slowed, "store")[0]
    assert not localised(plain, slowed, "loop")[0]
    assert not localised(plain, regions(200.0, rest=0.4, loop=0.3, store=0.3), "store")[0]
    assert localised(Profile("t"), slowed, "store") == (False, "not measured")


def test_routes_are_counted_and_timed() -> None:
    text = "\n".join(report_lines(records(("conv1d", "conv1d_eager", Profile("t", kernels=(kernel(3400.0, 3500.0, None),))))))
    assert "| conv1d_eager | 1 | 340.0 | 350.0 |" in text
    assert "| conv1d_eager | `k` | 1 | 340.0 | 350.0 |" in text


def test_planted_faults_are_counted_once_each_by_their_latest_diagnosis() -> None:
    side = {"place": 1, "cannot_tell": False, "causes": [["atomics", 0.4, ["atomic_sectors = 5"]]]}
    none = {"place": None, "cannot_tell": True, "causes": []}
    items = [
        {"kernel": "a", "planted": "atomics", "run": none, "compiled": none, "missing": []},
        {"kernel": "a", "planted": "atomics", "run": side, "compiled": none, "missing": [["ncu", "timeout", "late"]]},
        {"kernel": "b", "planted": "narrow_loads", "run": none, "compiled": side, "missing": []},
    ]
    text = "\n".join(planted_lines(items))
    assert "measured: 1 of 2" in text
    assert "Cannot be seen without running: atomics." in text
    assert "| a | atomics | 1 | cannot be told | atomics | atomic_sectors = 5 |" in text
    assert "| b | narrow_loads | missed | 1 | - |  |" in text
    assert "| b | narrow_loads | counters not taken |" in "\n".join(planted_lines([{**items[2], "missing": [["ncu", "timeout", "late"]]}]))
    assert "- a: ncu: timeout, late" in text


def test_the_command_writes_a_file(tmp_path: Path) -> None:
    lines = records(("kernels", "softmax", Profile("t", kernels=(kernel(10.0, None, None),))))
    (tmp_path / "r.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    assert main([str(tmp_path / "r.jsonl"), "--out", str(tmp_path / "out" / "report.md")]) == 0
    assert "a device" in (tmp_path / "out" / "report.md").read_text()


def test_the_least_bytes_of_a_gather_count_each_row_once() -> None:
    gather = next(case for case in kernel_cases() if case.name == "gather")
    assert gather.least_bytes is not None
    assert 262144 * 1032 < gather.least_bytes < 262144 * 1032 + 200000 * 1024
