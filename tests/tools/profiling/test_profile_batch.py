"""Many candidates are prepared together and measured one by one; what fails, hangs or is refused costs only itself. Clock marks compile, and their times add up or are refused."""

from __future__ import annotations

import itertools
import stat
import sys
from pathlib import Path
from typing import Any

import pytest

from evaluation.profiling.cases import conv_cases, kernel_cases, region_cases
from tools.profiling.batch import Batch, profile_batch
from tools.profiling.clock_times import clock_profile
from tools.profiling.clocks import Marked, find_places, marked_variants
from tools.profiling.collect import Request, known_metrics, ncu_attempts
from tools.profiling.emit import NCU_METRICS
from tools.profiling.planted.__main__ import compiled_only, verdict
from tools.profiling.planted.kernels import PLANTED
from tools.profiling.types import Figure, KernelProfile, Profile
from tools.types import Candidate, Evidence, Problem

PROBLEM = Problem(
    "tests/twice",
    "twice",
    "import torch\n\n\nclass Model(torch.nn.Module):\n    def forward(self, x):\n        return x + x\n\n\ndef get_inputs():\n    return [torch.ones(64)]\n\n\ndef get_init_inputs():\n    return []\n",
)
PLAIN = Candidate(
    "import torch\n\n\nclass ModelNew(torch.nn.Module):\n    def forward(self, x):\n        return torch.mul(x, 2.0)\n", "torch"
)
FAKE_NCU = """#!{python}
import subprocess, sys
words = sys.argv[1:]
if "--query-metrics" in words:
    print("Device NVIDIA H100 (GH100)")
    for index in range(150):
        print(f"unit__thing_{{index}}    Counter    unit    something")
    print("dram__bytes_read    Counter    byte    # of bytes read from DRAM")
    sys.exit(0)
log = words[words.index("--log-file") + 1]
if "--metrics" in words:
    open(log, "w").write("==ERROR== Failed to find metric in the query\\n")
    sys.exit(1)
status = subprocess.run(words[words.index(log) + 1 :]).returncode
open(log, "w").write(
    '==PROF== Profiling "scale" - 0: 0%....100% - 9 passes\\n'
    '"ID","Process ID","Process Name","Host Name","Kernel Name","Context","Stream","Block Size","Grid Size","Device","CC","dram__bytes_read.sum","gpu__time_duration.sum"\\n'
    '"","","","","","","","","","","","byte","nsecond"\\n'
    '"0","7","python","here","scale","1","7","(128, 1, 1)","(264, 1, 1)","0","9.0","1,048,576","2,500"\\n'
)
sys.exit(status)
"""


@pytest.fixture
def fake_ncu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An ncu that refuses explicit metrics, runs the program, and writes a raw page."""
    folder = tmp_path / "bin"
    folder.mkdir()
    tool = folder / "ncu"
    tool.write_text(FAKE_NCU.format(python=sys.executable))
    tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    return tool


@pytest.mark.slow
def test_a_batch_measures_one_program_at_a_time_and_survives_what_fails(tmp_path: Path, fake_ncu: Path) -> None:
    log = tmp_path / "calls.log"
    noting = f"""
import os, time, torch

class ModelNew(torch.nn.Module):
    def forward(self, x):
        if os.path.exists(os.path.join(os.environ["PROFILE_TURN"], "go")):
            with open({str(log)!r}, "a") as out:
                out.write(f"{{time.monotonic()}} {{os.getpid()}}\\n")
        return torch.mul(x, 2.0)
"""
    broken = Candidate(PLAIN.source.replace("return torch", "raise ValueError('on purpose')\n        return torch"), "torch")
    requests = (
        Request(Candidate(noting, "torch"), PROBLEM, "cpu", ("torch", "ncu", "regions"), calls=2),
        Request(broken, PROBLEM, "cpu", ("torch",), calls=2),
        Request(Candidate(noting, "torch"), PROBLEM, "cpu", ("torch",), calls=3),
    )
    said: list[str] = []
    found = dict(profile_batch(Batch(requests, tmp_path / "work", 300.0, say=said.append)))
    assert sorted(found) == [0, 1, 2]
    assert (found[0].kernel("aten::mul").launches, found[2].kernel("aten::mul").launches) == (2, 3)  # type: ignore[union-attr]  # they ran
    counted = found[0].kernel("scale")
    assert counted is not None
    assert (counted.value("dram_read_bytes"), counted.value("grid_size")) == (1048576, 264)
    assert [(item.what, item.kind) for item in found[0].missing] == [("regions", "unsupported")]
    assert [(item.what, item.kind) for item in found[1].missing] == [("torch", "failed")]
    assert "on purpose" in found[1].missing[0].reason
    assert any("tried again" in line for line in said)  # the metrics were refused
    order = [program for _, program in sorted((float(line.split()[0]), line.split()[1]) for line in log.read_text().splitlines())]
    assert len(dict.fromkeys(order)) == 3  # three programs called it,
    assert sum(1 for one, other in itertools.pairwise(order) if one != other) == 2  # one after the other


def test_a_batch_whose_time_is_up_says_so_for_everything(tmp_path: Path) -> None:
    found = dict(profile_batch(Batch((Request(PLAIN, PROBLEM, "cpu", ("torch",)),), tmp_path, 0.0)))
    assert [item.kind for item in found[0].missing] == ["timeout"]


def test_metrics_that_the_chip_lacks_are_left_out(tmp_path: Path, fake_ncu: Path) -> None:
    assert known_metrics(tmp_path) == ("dram__bytes_read.sum",)
    first, second = ncu_attempts(Request(PLAIN, PROBLEM, "cpu", calls=9), "n.csv", known_metrics(tmp_path))
    assert first[0] == str(fake_ncu)
    assert first[first.index("--metrics") + 1] == "dram__bytes_read.sum"
    assert "--metrics" not in second
    assert first[-2:] == ["candidate", "1"]


def test_all_metrics_are_asked_for_where_ncu_does_not_tell(tmp_path: Path, fake_ncu: Path) -> None:
    fake_ncu.write_text(f"#!{sys.executable}\nprint('no driver')\n")
    assert known_metrics(tmp_path) == NCU_METRICS


def test_regions_of_a_kernel_leave_no_statement_out() -> None:
    gemm = next(case for case in region_cases() if case.name == "gemm")
    places = [place for place in find_places(gemm.source) if place.is_outer]
    assert [place.label.partition("@")[0] for place in places] == ["rest", "loop", "store"]
    assert [place.first for place in places[1:]] == [place.last + 1 for place in places[:-1]]
    inner = [place for place in find_places(gemm.source) if not place.is_outer]
    assert [place.label.partition("@")[0] for place in inner] == ["load", "load", "dot", "rest"]


def test_slowed_kernels_have_the_regions_of_the_plain_ones() -> None:
    labels = {case.name: [place.label for place in find_places(case.source)] for case in region_cases()}
    assert labels["gemm"] == labels["gemm_slow_end"]
    assert labels["layer_norm"] == labels["layer_norm_slow_begin"] == labels["layer_norm_slow_end"]


def test_every_case_of_the_study_is_python_with_marks_or_without() -> None:
    for case in (*kernel_cases(), *conv_cases(), *region_cases()):
        compile(case.problem.source, case.name, "exec")
        compile(case.source, case.name, "exec")
        for marked in marked_variants(case.source):
            compile(marked.source, case.name, "exec")
            assert marked.source.count("kevolve_marks=kevolve_buffer()") == 1


@pytest.mark.slow
def test_marks_keep_the_pipeline_of_a_gemm() -> None:
    from tools.compile.job import Job
    from tools.compile.server import CompileServer
    from tools.targets.registry import get_target

    gemm = next(case for case in region_cases() if case.name == "gemm")
    limits = {name: limit.value for name, limit in get_target("cuda:sm_90").limits().items()}

    def text(server: CompileServer, source: str) -> str:
        report = server.compile(Job(source, "cuda:sm_90", limits, problem=gemm.problem.source, emit="ptx"), timeout_s=250)
        assert report.status == "compiled", report.error
        return report.emitted[0].text

    with CompileServer() as server:
        plain = text(server, gemm.source)
        for marked in marked_variants(gemm.source):
            found = text(server, marked.source)
            assert found.count("clock64") == (4 if marked.place else 2)
            assert (found.count("cp.async.cg"), found.count("wgmma.mma")) == (plain.count("cp.async.cg"), plain.count("wgmma.mma"))


def _measured(found: tuple[Marked, ...], shares: dict[str, float], slower: str = "") -> dict[str, Any]:
    names = [marked.place.label if marked.place else "whole" for marked in found]
    samples = {f"clocks{index}": [100.0 * (1.2 if name == slower else 1.0)] * 5 for index, name in enumerate(names)}
    clocks = {f"clocks{index}": {"spent": [shares.get(name, 0.0) * 1e6] * 5, "whole": [1e6] * 5, "programs": 9} for index, name in enumerate(names)}  # fmt: skip
    return {"samples_us": {"base": [100.0] * 5, "again": [100.0] * 5, **samples}, "clocks": clocks, "failed": {}}


def test_shares_of_cycles_become_times_that_add_up() -> None:
    found = marked_variants(next(case for case in region_cases() if case.name == "gemm").source)
    labels = [marked.place.label for marked in found if marked.place and marked.place.is_outer]
    profile = clock_profile("cuda:sm_90", found, _measured(found, dict(zip(labels, (0.02, 0.9, 0.06), strict=True))))
    times = {region.name: region.time.value for region in profile.regions}
    assert [round(times[label], 3) for label in labels] == [2.0, 90.0, 6.0]
    assert profile.host_value("clocks_sum_fraction") == pytest.approx(0.98)
    assert profile.passes[0].status == "collected"


def test_a_pass_whose_marks_disturb_is_rejected_and_nothing_is_said_to_add_up() -> None:
    found = marked_variants(next(case for case in region_cases() if case.name == "gemm").source)
    loop = next(marked.place.label for marked in found if marked.place and marked.place.label.startswith("loop"))
    profile = clock_profile("cuda:sm_90", found, _measured(found, {}, slower=loop))
    assert [item.kind for item in profile.missing] == ["rejected"]
    assert loop not in {region.name for region in profile.regions}
    assert profile.host_value("clocks_sum_fraction") is None


def test_a_kernel_among_others_gets_its_share_of_the_call() -> None:
    found = marked_variants(next(case for case in region_cases() if case.name == "gemm").source)
    loop = next(marked.place.label for marked in found if marked.place and marked.place.label.startswith("loop"))
    time = Figure("device_time_us", 30.0, "us", "torch.profiler dur", "time")
    before = Profile("cuda:sm_90", kernels=(KernelProfile("kernel", launches=1, figures=(time,)), KernelProfile("other", launches=2, figures=(time,))))  # fmt: skip
    profile = clock_profile("cuda:sm_90", found, _measured(found, {loop: 0.5}), [before])
    assert next(region.time.value for region in profile.regions if region.name == loop) == pytest.approx(25.0)


def test_the_verdict_holds_the_run_against_the_compiled_evidence() -> None:
    spilled = next(item for item in PLANTED if item.name == "spilled")
    figures = (
        Figure("spill_bytes", 400.0, "bytes", "compiled binary: spill_bytes", "resource", Evidence.COMPILED),
        Figure("device_time_us", 50.0, "us", "torch.profiler dur", "time"),
    )
    profile = Profile("cuda:sm_90", kernels=(KernelProfile("kernel", launches=2, figures=figures),))
    assert [figure.name for figure in compiled_only(profile).kernels[0].figures] == ["spill_bytes"]
    found = verdict(spilled, profile, {})
    assert (found["run"]["place"], found["compiled"]["place"]) == (1, 1)
    hidden = next(item for item in PLANTED if item.name == "bank_conflicts")
    assert verdict(hidden, profile, {})["compiled"] == {**verdict(hidden, profile, {})["compiled"], "place": None, "cannot_tell": True}
