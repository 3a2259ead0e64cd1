"""The second baseline of what rests on algebra: measured when it is due, compared by way of what ran beside both, and never flattering."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agents.coders.library import capture_worker, coder
from agents.coders.library.capture import Capture
from agents.coders.library.graph import graph_from_json
from agents.driver import Machinery
from evaluation.bench import knowledge_of
from evaluation.records import Record, read
from evaluation.report import render
from evaluation.simplified import factor, measure_simplified, relative, rewrites_of, with_simplified_baseline
from tools.types import Candidate, Effort, Evaluation, Evidence, Interval, Problem, Status

ROOT = Path(__file__).resolve().parent.parent.parent
SOURCE = """import torch
from torch import nn
class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.l = nn.Linear(6, 10)
    def forward(self, x):
        return self.l(x).sum(1)
def get_inputs():
    return [torch.rand(4, 6)]
def get_init_inputs():
    return []
"""
PROBLEM = Problem("tests/sum", "sum", SOURCE)
REWRITTEN = {"coder": "library", "simplified": ["the sum …"], "restated": []}


def interval(value: float, spread: float = 0.1) -> Interval:
    return Interval(value, value * (1 - spread), value * (1 + spread))


def evaluation(name: str = "c", status: Status = Status.PASSED, **speedup: float) -> Evaluation:
    known = {key: interval(value) for key, value in speedup.items()}
    is_passed = status is Status.PASSED
    return Evaluation(
        name, "tests/sum", "cpu", Evidence.MEASURED, status, "" if is_passed else "no", latency_ms=1.0 if is_passed else None, speedup=known
    )


class Evaluator:
    """Answers each candidate with a speedup of its own and remembers which it saw."""

    def __init__(self, status: Status = Status.PASSED) -> None:
        self.seen: list[Candidate] = []
        self.status = status

    def evaluate(self, candidate: Candidate, problem: Problem, *, target: str, effort: Effort, seed: int) -> Evaluation:
        self.seen.append(candidate)
        if self.status is not Status.PASSED:
            return evaluation(candidate.candidate_id, self.status)
        return evaluation(candidate.candidate_id, eager=4.0, compiled=2.0)


@pytest.fixture(autouse=True)
def _capture_here(monkeypatch: pytest.MonkeyPatch) -> None:
    def capture(source: str) -> Capture:
        workloads = capture_worker.capture(source)["workloads"]
        return Capture(tuple((item["name"], graph_from_json(item["graph"])) for item in workloads))

    monkeypatch.setattr(coder, "capture", capture)


def measure(evaluator: Evaluator, provenance: dict[str, Any], source: str = "class ModelNew: ...") -> dict[str, Any] | None:
    machinery = Machinery(coder.LibraryCoder(), evaluator, lambda _: ())
    candidate = Candidate(source, "torch", {}, provenance)
    return measure_simplified(candidate, evaluation(candidate.candidate_id, eager=8.0, compiled=6.0), PROBLEM, "cpu", machinery, 0)


def record(problem: str = "p", simplified: dict[str, Any] | None = None, **speedup: float) -> Record:
    extra = {} if simplified is None else {"simplified": simplified}
    return Record("s", problem, "cpu", evaluation(**speedup).to_json(), 2, 1.0, "kevolve bench", {}, extra=extra)


def forms(compiled: Evaluation, plain: Evaluation) -> dict[str, Any]:
    arms = {name: {"evaluation": item.to_json(), "source": ""} for name, item in (("compiled", compiled), ("plain", plain))}
    return {"rewrites": ["the sum …"], **arms}


def test_what_rests_on_algebra_is_measured_without_kernels_as_it_is_and_compiled() -> None:
    evaluator = Evaluator()
    found = measure(evaluator, REWRITTEN)
    assert found is not None and len(found["rewrites"]) == 1
    assert [found[arm]["evaluation"]["status"] for arm in ("compiled", "plain")] == ["passed", "passed"]
    assert ["@torch.compile" in item.source for item in evaluator.seen] == [True, False]
    assert all("aten.linear" not in item.source and "aten.matmul" in item.source for item in evaluator.seen)


@pytest.mark.parametrize("provenance", [{}, {"coder": "llm", "simplified": ["x"]}, {"coder": "library", "simplified": [], "restated": []}])
def test_nothing_is_measured_for_what_was_not_rewritten(provenance: dict[str, Any]) -> None:
    evaluator = Evaluator()
    assert measure(evaluator, provenance) is None and not evaluator.seen


def test_a_baseline_that_was_published_itself_is_not_measured_again() -> None:
    baseline = coder.simplified(PROBLEM, "cpu", None)
    assert baseline is not None
    evaluator = Evaluator()
    found = measure(evaluator, REWRITTEN, baseline.compiled.source)
    assert found is not None and [item.source for item in evaluator.seen] == [baseline.plain.source]
    published = evaluation(baseline.compiled.candidate_id, eager=8.0, compiled=6.0)
    made = Record("s", "p", "cpu", published.to_json(), 2, 1.0, "kevolve bench", {}, extra={"simplified": found})
    assert factor(made, "compiled") == Interval(1.0, 1.0, 1.0)


def test_a_baseline_that_fails_is_kept_with_its_status_and_counts_for_nothing() -> None:
    found = measure(Evaluator(Status.WRONG_VALUES), REWRITTEN)
    made = record(simplified=found, eager=8.0, compiled=6.0)
    assert found is not None and found["compiled"]["evaluation"]["status"] == "wrong_values"
    assert factor(made, "compiled") is None and with_simplified_baseline(made) == made.evaluation
    assert "wrong_values: no" in render([made], "T") and "1 of them have no such measurement" in render([made], "T")


def test_a_ratio_goes_by_the_baseline_that_tells_most() -> None:
    one = Evaluation(
        "a",
        "p",
        "cpu",
        Evidence.MEASURED,
        Status.PASSED,
        latency_ms=1.0,
        speedup={"eager": interval(8.0, 0.5), "compiled": interval(6.0, 0.01)},
    )
    other = evaluation("b", eager=4.0, compiled=2.0)
    found = relative(one, other)
    assert found is not None and found.value == pytest.approx(3.0)
    assert found.low == pytest.approx(6 * 0.99 / 2.2) and found.high == pytest.approx(6 * 1.01 / 1.8)
    assert (
        relative(one, evaluation("b", Status.TIMEOUT)) is None
        and relative(evaluation("a", eager=2.0), evaluation("b", compiled=2.0)) is None
    )


def test_the_simplified_forward_stands_in_only_where_it_is_faster() -> None:
    faster = record(
        simplified=forms(evaluation("x", eager=4.0, compiled=3.0), evaluation("y", eager=0.5, compiled=0.4)), eager=8.0, compiled=6.0
    )
    found = with_simplified_baseline(faster).speedup
    assert found["compiled"].value == pytest.approx(2.0) and found["eager"].value == 8.0
    untouched = record(eager=8.0, compiled=6.0)
    assert with_simplified_baseline(untouched) == untouched.evaluation and rewrites_of(untouched) == ()


def test_the_report_shows_both_means_and_names_the_rewrites() -> None:
    rewritten = record(
        "a", forms(evaluation("x", eager=4.0, compiled=3.0), evaluation("y", eager=2.0, compiled=1.5)), eager=8.0, compiled=8.0
    )
    text = render([rewritten, record("b", eager=2.0, compiled=2.0)], "T")
    assert "1 of 2 problems were rewritten" in text and "| a | the sum …" in text
    # of a: 8 over compiled, 8 / 3 (or 8 / 4 by way of eager) over the simplified one; of b: 2
    assert "| compiled | 4.00 | 2.00 |" in text or "| compiled | 4.00 | 2.31 |" in text
    assert "The same algebra" not in render([record("b", eager=2.0)], "T")


def test_a_search_without_a_base_knew_nothing() -> None:
    assert knowledge_of(None, "cpu")["kernel_documents"] == 0 == knowledge_of(None, "cpu")["winners"]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_bench_on_the_cpu_measures_and_reports_the_simplified_forward(tmp_path: Path) -> None:
    folder = tmp_path / "checkout" / "KernelBench" / "level2"
    folder.mkdir(parents=True)
    (folder / "1_Linear_Sum.py").write_text(SOURCE.replace("(6, 10)", "(256, 512)").replace("(4, 6)", "(64, 256)"))
    command = [sys.executable, "-m", "agents.cli", "bench", "kernelbench", "--kernelbench", str(tmp_path / "checkout"), "--level", "2"]
    command += ["--target", "cpu", "--home", str(tmp_path / "home"), "--no-knowledge", "--budget-evaluations", "1"]
    done = subprocess.run([*command, "--results", str(tmp_path / "r.jsonl")], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    made = read([tmp_path / "r.jsonl"])[0]
    assert made.evaluation.status is Status.PASSED and made.extra["knowledge"]["kernel_documents"] == 0
    assert [made.extra["simplified"][arm]["evaluation"]["status"] for arm in ("compiled", "plain")] == ["passed", "passed"]
    assert factor(made, "plain") is not None and "1 of 1 problems were rewritten" in done.stdout
