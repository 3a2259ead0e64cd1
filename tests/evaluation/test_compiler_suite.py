"""The compiler suite: forty kernels that lint clean; readers that disagree are seen; the driver's word is compared figure by figure."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

from evaluation import compiler_suite, driver_comparison, replay_on_device
from evaluation.binary_reader import BinaryFacts, entry_points, read_binary
from evaluation.cuda_driver import Driver, DriverFacts
from tools.compile import nvidia
from tools.compile.server import CompileServer
from tools.errors import MachineError
from tools.lint.engine import lint
from tools.targets.base import CompileReport, KernelResources
from tools.targets.profile import load_profiles

HOPPER = load_profiles()["cuda:sm_90"]


def test_there_are_forty_kernels_and_none_has_a_lint_error_anywhere() -> None:
    kernels = compiler_suite.kernels()
    assert len({kernel.name for kernel in kernels}) == len(kernels) == 40
    for kernel in kernels:
        for target in compiler_suite.TARGETS:
            profile = load_profiles()[target]
            findings = lint(kernel.source, target=target, limits=profile.limits)
            assert not [str(item) for item in findings if item.severity == "error"], kernel.name


@pytest.fixture(scope="module")
def reports() -> dict[str, CompileReport]:
    transpose = next(kernel for kernel in compiler_suite.kernels() if kernel.name == "transpose")
    with CompileServer() as server:
        return {name: server.compile(compiler_suite.job_of(transpose, load_profiles()[name])) for name in ("cuda:sm_90", "rocm:gfx942")}


@pytest.mark.slow
def test_independent_readers_agree_with_the_report_and_a_planted_difference_is_named(reports: dict[str, CompileReport]) -> None:
    for target, report in reports.items():
        if target.startswith("rocm") and shutil.which("llvm-readelf") is None:
            continue
        ((resources, binary),) = compiler_suite.binaries(report)
        facts = read_binary(binary)
        assert facts.registers == resources.registers and facts.local_bytes == 0
        assert compiler_suite.disagreements(resources, facts) == []
        planted = dataclasses.replace(facts, registers=(facts.registers or 0) + 1)
        assert compiler_suite.disagreements(resources, planted)[0].startswith("registers: report ")
    ((_, cubin),) = compiler_suite.binaries(reports["cuda:sm_90"])
    assert entry_points(cubin) == ["transpose"]
    assert nvidia.elf_registers(cubin) == read_binary(cubin).registers


@pytest.mark.slow
def test_the_drivers_figures_are_compared_one_by_one(reports: dict[str, CompileReport]) -> None:
    ((resources, _),) = compiler_suite.binaries(reports["cuda:sm_90"])
    blocks = round((resources.occupancy_fraction or 0) * 64 / resources.num_warps)

    class Planted(Driver):
        def __init__(self, facts: DriverFacts) -> None:
            self._facts = facts

        def facts(self, cubin: bytes, kernel: str, *, threads: int, shared_bytes: int) -> DriverFacts:
            assert (kernel, threads, shared_bytes) == ("transpose", 32 * resources.num_warps, resources.shared_bytes)
            return self._facts

    right = DriverFacts(resources.registers or 0, 0, 0, resources.shared_bytes, blocks)
    row = driver_comparison.compare("transpose", HOPPER, reports["cuda:sm_90"], Planted(right))
    assert row["launches"][0]["differences"] == []
    wrong = dataclasses.replace(right, local_bytes=8, blocks_per_multiprocessor=blocks + 1)
    row = driver_comparison.compare("transpose", HOPPER, reports["cuda:sm_90"], Planted(wrong))
    names = [text.partition(":")[0] for text in row["launches"][0]["differences"]]
    assert names == ["spill_bytes", "blocks_per_multiprocessor"]
    assert "1 launches compiled by us, 1 loaded" in driver_comparison.markdown([row])
    without = driver_comparison.compare("transpose", HOPPER, reports["cuda:sm_90"], None)
    assert "no NVIDIA driver" in without["launches"][0]["error"] and json.dumps(without)


def test_a_file_that_is_no_binary_is_refused_and_a_missing_driver_is_an_error_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="neither a cubin nor an HSACO"):
        read_binary(b"text" * 10)

    def missing(name: str) -> None:
        raise OSError("cannot open shared object file")

    monkeypatch.setattr("ctypes.CDLL", missing)
    with pytest.raises(MachineError, match="no NVIDIA driver on this machine"):
        Driver()


def test_figures_that_a_reader_does_not_know_are_no_difference() -> None:
    resources = KernelResources("k", "", 4, 1024, registers=32, spill_bytes=0)
    assert compiler_suite.disagreements(resources, BinaryFacts("a reader")) == []
    assert compiler_suite.disagreements(resources, BinaryFacts("a reader", 32, 16, 0)) == [
        "spill_bytes: report 0, a reader 16",
        "shared_bytes: report 1024, a reader 0",
    ]


@pytest.mark.parametrize(
    ("prediction", "ratio", "right"),
    [("equal", 1.04, True), ("equal", 0.94, False), ("equal", 1.06, False), ("slower", 1.3, True), ("slower", 1.2, False)],
)
def test_a_prediction_holds_or_not_by_the_stated_thresholds(prediction: str, ratio: float, right: bool) -> None:
    assert replay_on_device.verdict(prediction, ratio) is right


@pytest.mark.slow
def test_every_edit_changes_the_text_and_compiles(tmp_path: Path) -> None:
    with CompileServer() as server:
        for edit in replay_on_device.EDITS:
            row, edited = replay_on_device.replay(edit, "cuda:sm_90", server)
            assert edited is not None and row["lines_changed"] >= 1, row["error"]
            if edit.name == "column-major layout":
                assert row["resources"]["after"]["load_vector_bytes"] < row["resources"]["before"]["load_vector_bytes"]
