"""Emit, edit, replay: the real compiler stops at a stage and goes on from an edited text, for a chip that is not here."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from sources import TRIPLE, TRIPLE_KERNEL

from tools.compile.edited import emit, read_stage, with_edited_ir, write_stages
from tools.compile.server import CompileServer
from tools.errors import ProblemError
from tools.targets.base import CompileReport
from tools.targets.profile import Profile, load_profiles
from tools.types import Candidate

CANDIDATE = Candidate(TRIPLE_KERNEL)


@pytest.fixture(scope="module")
def chip() -> Profile:
    return load_profiles()["cuda:sm_90"]


@pytest.fixture(scope="module")
def server() -> Iterator[CompileServer]:
    with CompileServer() as opened:
        yield opened


@pytest.fixture(scope="module")
def ptx(chip: Profile, server: CompileServer) -> CompileReport:
    return emit(CANDIDATE.source, chip, "ptx", problem=TRIPLE, server=server)


def test_each_stage_is_emitted_as_text(chip: Profile, server: CompileServer) -> None:
    for stage, word in (("ttir", "tt.load"), ("ttgir", "#ttg.blocked"), ("llir", "define"), ("ptx", ".visible .entry triple")):
        (item,) = emit(CANDIDATE.source, chip, stage, problem=TRIPLE, server=server).emitted
        assert (item.kernel, item.stage) == ("triple", stage) and word in item.text


def test_an_edited_constant_is_in_the_machine_code_that_follows(chip: Profile, server: CompileServer, ptx: CompileReport) -> None:
    (item,) = ptx.emitted
    assert "0f40400000" in item.text.lower()  # 3.0
    edited = with_edited_ir(CANDIDATE, ptx, dataclasses.replace(item, text=re.sub("0f40400000", "0f40a00000", item.text, flags=re.I)))
    assert edited.candidate_id != CANDIDATE.candidate_id and edited.provenance["edited_ir"]["of"] == CANDIDATE.candidate_id
    again = emit(edited.source, chip, "ptx", problem=TRIPLE, server=server)
    assert again.status == "compiled" and "0f40a00000" in again.emitted[0].text.lower()


def test_layouts_are_edited_in_the_gpu_dialect(chip: Profile, server: CompileServer) -> None:
    report = emit(CANDIDATE.source, chip, "ttgir", problem=TRIPLE, server=server)
    (item,) = report.emitted
    assert "sizePerThread = [4]" in item.text and report.kernels[0].load_vector_bytes == 16
    narrow = item.text.replace("sizePerThread = [4]", "sizePerThread = [1]")
    edited = with_edited_ir(CANDIDATE, report, dataclasses.replace(item, text=narrow))
    assert emit(edited.source, chip, "ttgir", problem=TRIPLE, server=server).kernels[0].load_vector_bytes == 4


def test_a_launch_with_other_constants_keeps_its_own_code(chip: Profile, server: CompileServer, ptx: CompileReport) -> None:
    (item,) = ptx.emitted
    edited = with_edited_ir(CANDIDATE, ptx, dataclasses.replace(item, text=re.sub("0f40400000", "0f40a00000", item.text, flags=re.I)))
    other = edited.source.replace("BLOCK=1024, num_warps=4)\n        return", "BLOCK=512, num_warps=4)\n        return")
    assert other != edited.source and "0f40400000" in emit(other, chip, "ptx", problem=TRIPLE, server=server).emitted[0].text.lower()


def test_a_second_edit_replaces_the_first(chip: Profile, server: CompileServer, ptx: CompileReport) -> None:
    (item,) = ptx.emitted
    once = with_edited_ir(CANDIDATE, ptx, dataclasses.replace(item, text=item.text + "\n// one"))
    twice = with_edited_ir(once, ptx, dataclasses.replace(item, text=item.text + "\n// two"))
    assert "// one" not in twice.source and twice.source.count("edited IR begin") == 1


def test_a_broken_edit_is_a_compile_error_that_says_so(chip: Profile, server: CompileServer, ptx: CompileReport) -> None:
    (item,) = ptx.emitted
    broken = with_edited_ir(CANDIDATE, ptx, dataclasses.replace(item, text=item.text.replace("ld.global", "ld.nowhere")))
    report = emit(broken.source, chip, "ptx", problem=TRIPLE, server=server)
    assert report.status == "error" and "triple" in report.error


def test_files_go_out_and_come_back(tmp_path: Path, ptx: CompileReport) -> None:
    (path,) = write_stages(ptx, tmp_path)
    assert path.name == "triple-0.ptx"
    path.write_text(path.read_text() + "// changed\n")
    assert read_stage(ptx, path).text.endswith("// changed\n")


def test_misuse_names_what_is_known(tmp_path: Path, chip: Profile, server: CompileServer, ptx: CompileReport) -> None:
    (item,) = ptx.emitted
    with pytest.raises(ProblemError, match="ttir, ttgir, llir, ptx"):
        emit(CANDIDATE.source, chip, "sass", problem=TRIPLE, server=server)
    with pytest.raises(ProblemError, match="known: ttgir, llir, ptx"):
        with_edited_ir(CANDIDATE, ptx, dataclasses.replace(item, stage="ttir"))
    with pytest.raises(ProblemError, match="edit it first"):
        with_edited_ir(CANDIDATE, ptx, item)
    with pytest.raises(ProblemError, match="known: triple"):
        with_edited_ir(CANDIDATE, ptx, dataclasses.replace(item, kernel="quadruple", text="x"))
    (tmp_path / "other.ptx").write_text("")
    with pytest.raises(ProblemError, match=r"triple-0\.ptx"):
        read_stage(ptx, tmp_path / "other.ptx")
