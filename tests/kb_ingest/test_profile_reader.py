"""Profilers' files become searchable documents, known by content; other files of the same endings do not."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from kb.errors import DocumentError
from kb.types import Document, Kind, Section, Trust
from kb_ingest.readers.base import RawFile
from kb_ingest.readers.registry import reader_for, reader_name

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tools" / "profiling"))
import reports


def document(data: str | bytes, name: str) -> Document:
    file = RawFile(name, data.encode() if isinstance(data, str) else data)
    reader = reader_for(file)
    assert reader_name(reader) == "profile"
    return reader.read(file)


def titles(section: Section) -> list[str]:
    return [section.title, *(title for child in section.children for title in titles(child))]


@pytest.mark.parametrize(
    ("data", "name", "targets", "kernel"),
    [
        (reports.NCU_RAW, "gemm.csv", ("cuda:sm_90",), "gemm"), (reports.NCU_DETAILS, "add.ncu.csv", ("cuda:sm_90",), "add_kernel"), (reports.ROCPROFV3_TRACE, "x_kernel_trace.csv", ("amd",), "scale(float*, int)"),
        (reports.GPU_TRACE, "trace.json", ("cuda:sm_90",), "gemm"), (reports.gzipped(reports.GPU_TRACE), "trace.json.gz", ("cuda:sm_90",), "gemm"), (reports.PROTON_TREE, "proton.hatchet", ("cuda:sm_90",), "gemm"),
    ],
)  # fmt: skip
def test_a_profile_becomes_a_document(data: str | bytes, name: str, targets: tuple[str, ...], kernel: str) -> None:
    found = document(data, name)
    assert (found.kind, found.trust, found.targets) == (Kind.PROFILE, Trust.MEASURED, targets)
    assert {f"Kernel {kernel}", "What stands out"} <= set(titles(found.root))
    assert found.front_matter["kernels"][0] == kernel


@pytest.mark.parametrize(("data", "name"), [("a,b\n1,2\n", "table.csv"), ('{"x": [1, 2]}', "data.json"), ("[1, 2]", "list.json"), ("DRAM is slow.\n", "Notes"), ('"A quotation" begins this.', "text.txt")])  # fmt: skip
def test_other_files_are_left_to_other_readers(data: str, name: str) -> None:
    assert reader_name(reader_for(RawFile(name, data.encode()))) != "profile"


def test_an_unusable_report_says_why() -> None:
    file = RawFile("empty.csv", (reports.NCU_HEAD + "\n").encode())
    with pytest.raises(DocumentError, match=r"\(empty\)"):
        reader_for(file).read(file)


def test_a_cut_trace_is_kept_and_the_loss_is_counted() -> None:
    found = document(reports.GPU_TRACE[:-60], "cut.json")
    assert found.lost == {"profile_parts": 1}
    assert "Not measured" in titles(found.root)


def test_a_record_links_the_document_to_candidate_and_problem() -> None:
    record = {
        "schema": "kevolve-profile",
        "version": 1,
        "target": "cpu",
        "candidate_id": "abc",
        "problem_id": "examples/x",
        "kernels": [{"name": "k", "launches": 1, "figures": []}],
    }
    found = document(json.dumps(record), "record.json")
    assert (found.front_matter["candidate_id"], found.front_matter["problem_id"], found.targets) == ("abc", "examples/x", ("cpu",))


def test_ingested_profiles_answer_questions(tmp_path: Path) -> None:
    from kb.store import KnowledgeBase
    from kb.types import Filters
    from kb_ingest.pipeline import ingest

    (tmp_path / "gemm.csv").write_text(reports.NCU_RAW, encoding="utf-8")
    (tmp_path / "trace.json").write_bytes(reports.GPU_TRACE)
    with KnowledgeBase.open(tmp_path / "home", embedder="hashing") as base:
        report = ingest([tmp_path / "gemm.csv", tmp_path / "trace.json"], base)
        assert (report.added, report.failed) == (2, ())
        found = base.query("long scoreboard stalls and sectors per load request of gemm", top_k=3, filters=Filters(target="cuda:sm_90"))
        assert any(hit.document == "gemm.csv" or "gemm.csv" in hit.document for hit in found.hits)
        other = base.query("device idle time and launch time", top_k=3, filters=Filters(target="rocm:gfx942"))
        assert not other.hits
