"""Arms that differ by kernel documents: the bases are real and filled by `kb ingest`; only what a search makes of them is planted, in threads."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from agents.config import RunConfig
from evaluation import bench_pool, kernel_ablation, new_document
from evaluation.bench import knowledge_of
from evaluation.document_arms import KERNELS, ArmOptions, bench_arm, kernel_names
from evaluation.errors import EvaluationError
from evaluation.kernel_ablation import WITH, WITHOUT, ablate
from evaluation.new_document import Move, add_document, kernel_of
from evaluation.records import Record, append, read
from kb.store import KnowledgeBase
from tools.problems import problem_from_source
from tools.types import Evaluation, Evidence, Interval, Problem, Status

DOCUMENT = KERNELS / "scans" / "cumsum_rows_cpp.md"
OTHER = KERNELS / "softmax" / "softmax_rows_cpp.md"
SOURCE = "class Model: pass\ndef get_inputs(): return []\ndef get_init_inputs(): return []\n"
WANTS = {"scan": "cumsum_rows_cpp", "softmax": "softmax_rows_cpp"}
"""The kernel that each planted problem gains by."""
SCAN, SOFTMAX = (problem_from_source(SOURCE, problem_id=name) for name in WANTS)


@pytest.fixture(scope="module", autouse=True)
def _workers() -> Iterator[None]:
    """Searches that find what the base of their home holds: twice as fast with the problem's kernel."""
    with pytest.MonkeyPatch.context() as patch:
        opened: list[tuple[Path, Any]] = []

        def work(problem: Problem) -> Record:
            home, options = opened[-1]
            with KnowledgeBase.open(home) as base:
                knowledge = knowledge_of(base, options.target)
            kernels = sorted({WANTS[problem.problem_id]} & kernel_names(home, options.target))
            value = 2.0 if kernels else 1.0
            speedup = {"eager": Interval(value, 0.99 * value, 1.01 * value)}
            best = Evaluation(str(kernels), problem.problem_id, "cpu", Evidence.MEASURED, Status.PASSED, latency_ms=1.0, speedup=speedup)
            extra = {"kernels": kernels, "knowledge": knowledge}
            return Record(
                "s", problem.problem_id, "cpu", best.to_json(), 2, 0.1, "x", {}, label=options.label, source=f"{kernels}", extra=extra
            )

        def pool(count: int, *, initargs: Any, **more: Any) -> ThreadPoolExecutor:
            opened.append(initargs[1:])
            return ThreadPoolExecutor(count)

        patch.setattr(bench_pool, "_work", work)
        patch.setattr(bench_pool, "ProcessPoolExecutor", pool)
        yield


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two kernel documents in folders, as in the repository."""
    folder = tmp_path_factory.mktemp("kernels")
    for path in (DOCUMENT, OTHER):
        (folder / path.parent.name).mkdir()
        shutil.copy(path, folder / path.parent.name)
    return folder


def options(folder: Path) -> ArmOptions:
    return ArmOptions("examples", "cpu", RunConfig(), folder / "records.jsonl", 2, None)


@pytest.fixture(scope="module")
def experiment(documents: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Move]]:
    """One document that comes later: the directory and what became of the problems."""
    folder = tmp_path_factory.mktemp("experiment")
    document = documents / "scans" / DOCUMENT.name
    return folder, add_document(document, [SCAN], [SOFTMAX], folder / "home", options(folder), documents)


def test_a_new_document_moves_its_family_and_leaves_the_others(experiment: tuple[Path, list[Move]]) -> None:
    scan, softmax = experiment[1]
    assert (
        scan.is_family
        and scan.is_moved
        and scan.is_as_expected
        and scan.before["kernels"] == []
        and scan.after["kernels"] == ["cumsum_rows_cpp"]
    )
    assert scan.ratio is not None and scan.ratio.value == 2.0
    assert not softmax.is_family and not softmax.is_moved and softmax.is_as_expected and softmax.is_same_source
    line = json.loads(scan.to_line())
    assert line["is_as_expected"] and line["ratio"]["value"] == 2.0 and line["after"]["speedup"]["eager"]["value"] == 2.0


def test_both_benches_are_recorded_with_what_was_known(experiment: tuple[Path, list[Move]]) -> None:
    found = read([experiment[0] / "records.jsonl"])
    known = {item.label: item.extra["knowledge"]["kernel_documents"] for item in found}
    assert len(found) == 4 and known == {"without-cumsum_rows_cpp": 1, "with-cumsum_rows_cpp": 2}


def test_what_is_recorded_is_not_searched_again(experiment: tuple[Path, list[Move]], documents: Path) -> None:
    folder, moves = experiment
    again = add_document(documents / "scans" / DOCUMENT.name, [SCAN], [SOFTMAX], folder / "home", options(folder), documents)
    assert again == moves and len(read([folder / "records.jsonl"])) == 4


def test_a_base_that_knows_the_document_already_is_refused(experiment: tuple[Path, list[Move]], documents: Path, tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="has the kernel 'cumsum_rows_cpp' already"):
        add_document(documents / "scans" / DOCUMENT.name, [SCAN], [], experiment[0] / "home", options(tmp_path), documents)


def test_a_family_that_stays_or_another_problem_that_moves_is_not_as_expected() -> None:
    facts = {"status": "passed", "kernels": ["k"]}
    still, faster = Interval(1.01, 0.97, 1.06), Interval(2.0, 1.9, 2.1)
    assert not Move("p", True, "k", facts, facts, still, True, False).is_as_expected
    assert not Move("p", True, "k", facts, facts, faster, False, False).is_as_expected, "not by the document"
    assert not Move("p", False, "k", facts, facts, faster, False, False).is_as_expected
    assert not Move("p", False, "k", facts, facts, still, True, False).is_as_expected
    assert Move("p", False, "k", facts, facts, faster, False, True).is_as_expected, "the same text on a noisy machine"
    failed = {"status": "timeout", "kernels": []}
    assert Move("p", False, "k", facts, failed, None, False, False).is_moved


@pytest.mark.parametrize("text", ["# no front matter\n", "---\nkind: guide\n---\n", "---\n: : :\n---\n"])
def test_what_is_no_kernel_document_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.md").write_text(text)
    with pytest.raises(EvaluationError, match=r"a\.md"):
        kernel_of(tmp_path / "a.md")


def test_the_ablation_has_a_base_without_and_one_with_kernel_documents(documents: Path, tmp_path: Path) -> None:
    found = ablate([SCAN, SOFTMAX], [WITHOUT, WITH], tmp_path / "home", options(tmp_path), documents)
    speedups = {arm: [item.evaluation.speedup["eager"].value for item in records] for arm, records in found.items()}
    assert speedups == {WITHOUT: [1.0, 1.0], WITH: [2.0, 2.0]}
    shutil.move(tmp_path / "home" / WITH, tmp_path / "mixed" / WITHOUT)
    with pytest.raises(EvaluationError, match="holds 2 kernel documents"):
        ablate([SCAN], [WITHOUT], tmp_path / "mixed", options(tmp_path), documents)
    with pytest.raises(EvaluationError, match="no arm 'some'"):
        ablate([SCAN], ["some"], tmp_path / "home", options(tmp_path), documents)


def test_no_time_is_left_for_an_arm_is_no_error(tmp_path: Path) -> None:
    late = ArmOptions("examples", "cpu", RunConfig(), tmp_path / "records.jsonl", 2, 0.0)
    assert bench_arm([SCAN], "arm", tmp_path / "home", late) == []


@pytest.mark.parametrize("command", [kernel_ablation, new_document])
def test_a_mistake_of_the_user_is_a_message(command: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any, tmp_path: Path) -> None:
    given = ["--only", "no_such"] if command is kernel_ablation else [str(DOCUMENT), "--family", "no_such"]
    place = ["--suite", "examples", "--target", "cpu", "--home", str(tmp_path / "h"), "--out", str(tmp_path / "o")]
    monkeypatch.setattr("sys.argv", ["command", *given, *place])
    with pytest.raises(SystemExit) as end:
        command.main()
    assert end.value.code == 2 and "no_such" in capsys.readouterr().err


def test_records_of_another_target_do_not_stand_beside_the_arms(monkeypatch: pytest.MonkeyPatch, capsys: Any, tmp_path: Path) -> None:
    best = Evaluation("c", "examples/swiglu", "cuda:sm_90", Evidence.MEASURED, Status.TIMEOUT, "late")
    append(tmp_path / "start.jsonl", Record("s", "examples/swiglu", "cuda:sm_90", best.to_json(), 1, 0.1, "x", {}))
    place = ["--suite", "examples", "--target", "cpu", "--home", str(tmp_path / "h"), "--out", str(tmp_path / "o")]
    monkeypatch.setattr("sys.argv", ["command", "--start", str(tmp_path / "start.jsonl"), *place])
    with pytest.raises(SystemExit):
        kernel_ablation.main()
    assert "cuda:sm_90, not of cpu" in capsys.readouterr().err
