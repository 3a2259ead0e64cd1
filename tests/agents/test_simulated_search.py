"""A search for a chip that is only simulated: found by simulated times, told as such everywhere, and kept apart from what was measured."""

from __future__ import annotations

import asyncio
import dataclasses
import io
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from landscape import PROBLEM, EndingCoder, LandscapeEvaluator, config, machinery
from rich.console import Console
from sources import DOUBLE_ROWS_KERNEL
from test_kevolve_command import kevolve

from agents.driver import create_run, drive
from agents.lessons import measured_steps
from agents.planner import plan
from agents.progress import Progress
from agents.runs.records import Event
from agents.runs.store import RunStore
from agents.show import outcome_table
from agents.workbench import resolve_target
from kb.store import KnowledgeBase
from kb.types import Trust
from tools.errors import MachineError
from tools.types import SIMULATED_TIME, Candidate, Effort, Evaluation, Evidence, Interval, Problem, Status

TARGET = "mtia:2i"
FILE = """
import torch
from torch import nn


class Model(nn.Module):
    def forward(self, x):
        return torch.relu(x) * 2.0


def get_inputs():
    return [torch.randn(32, 128)]


def get_init_inputs():
    return []
"""
ANSWER = f"Sixteen rows at a time.\n\n```python\n{DOUBLE_ROWS_KERNEL}```\n"


class SimulatedLandscape(LandscapeEvaluator):
    """The landscape as a model would tell it: one baseline, a name of its own, evidence and label."""

    def evaluate(self, candidate: Candidate, problem: Problem, *, target: str, effort: Effort, seed: int) -> Evaluation:
        found = super().evaluate(candidate, problem, target=target, effort=effort, seed=seed)
        if found.status is not Status.PASSED:
            return dataclasses.replace(found, evidence=Evidence.SIMULATED)
        speedup = {"eager_simulated": found.speedup["compiled"]}
        workloads = tuple(dataclasses.replace(item, speedup=speedup) for item in found.workloads)
        return dataclasses.replace(
            found, evidence=Evidence.SIMULATED, speedup=speedup, workloads=workloads, labels=(SIMULATED_TIME,), target=target
        )


@pytest.fixture
def base(tmp_path: Path) -> Iterator[KnowledgeBase]:
    with KnowledgeBase.open(tmp_path / "kb", embedder="hashing") as opened:
        yield opened


def searched(home: Path, base: KnowledgeBase, evaluations: int = 9) -> tuple[RunStore, str, dict[str, object]]:
    store = RunStore(home)
    run_id = create_run(store, PROBLEM, TARGET, config(evaluations=evaluations))
    return store, run_id, dict(asyncio.run(drive(store, run_id, machinery(SimulatedLandscape(), base=base))))


def answering(spool: Path, ended: threading.Event) -> None:
    """Answer every request of a spool directory with the same kernel."""
    while not ended.wait(0.05):
        for path in spool.glob("*.prompt.md"):
            answer = spool / path.name.replace(".prompt.md", ".answer.md")
            if not answer.exists():
                part = spool / f".{path.name}.part"
                part.write_text(ANSWER)
                part.replace(answer)


def run_of(folder: Path, *coder: str) -> tuple[dict[str, object], str]:
    """Run a search by simulated time without knowledge and return its result and what it told meanwhile."""
    problem = folder / "double.py"
    problem.write_text(FILE)
    code, out, err = kevolve(
        *("run", str(problem), "--target", TARGET, "--no-knowledge", "--json", "--profiles", "0", "--strategy", "one_shot"),
        *("--strategy-option", "drafts=1", "--budget-evaluations", "2", "--home", str(folder / "home"), *coder),
    )
    assert code == 0, err
    return json.loads(out), err


def test_a_run_by_simulated_time_says_so_in_every_output(tmp_path: Path) -> None:
    result, err = run_of(tmp_path, "--coder", "reference")
    best: dict[str, object] = result["best"]  # type: ignore[assignment]  # JSON
    assert (
        "the analytical model of docs/guide/mtia-model.md" in str(result["simulated_by"]) and best["simulated_by"] == result["simulated_by"]
    )
    assert best["evidence"] == "simulated" and best["labels"] == [SIMULATED_TIME]
    assert best["speedup"] == {"eager_simulated": {"value": 1.0, "low": 1.0, "high": 1.0}} and result["lesson_id"] is None
    assert "simulated by" in " ".join(err.split()) and "(simulated)" in err and "checked and simulated again" in err
    run_id, home = str(result["run_id"]), ("--home", str(tmp_path / "home"))
    _, shown, _ = kevolve("show", run_id, *home)
    told = " ".join(shown.replace("│", " ").split())
    assert "× simulated" in told and "nothing was measured" in told and "a lesson needs measurements" in told and "95 %" not in told
    assert "× simulated" in kevolve("runs", *home)[1]
    assert json.loads(kevolve("show", run_id, *home, "--json")[1])["nodes"][0]["evaluation"]["evidence"] == "simulated"
    kevolve("export", run_id, str(tmp_path / "package"), *home)
    readme = (tmp_path / "package" / "README.md").read_text()
    assert "Nothing was measured" in readme and "95 %" not in readme


@pytest.mark.slow
def test_a_model_that_answers_by_file_finds_a_kernel_that_is_faster_by_the_simulator(tmp_path: Path) -> None:
    spool, ended = tmp_path / "spool", threading.Event()
    person = threading.Thread(target=answering, args=(spool, ended))
    person.start()
    try:
        result, _ = run_of(tmp_path, "--coder", "llm", "--model", f"spool:{spool}")
    finally:
        ended.set()
        person.join()
    best: dict[str, object] = result["best"]  # type: ignore[assignment]  # JSON
    assert float(str(best["fitness"])) > 1.0 and best["composition"] == "custom"
    (prompt,) = [path.read_text() for path in spool.glob("*.prompt.md")]
    assert "This chip is simulated: nothing is measured" in prompt and "torch.compile`, the geometric mean" not in prompt


def test_a_simulated_gain_bears_no_lesson_and_its_winner_says_that_nothing_was_measured(tmp_path: Path, base: KnowledgeBase) -> None:
    store, run_id, result = searched(tmp_path, base)
    assert result["best"]["fitness"] > 1.5 and result["winner_id"]  # type: ignore[index]  # JSON
    assert result["lesson_id"] is None and base.lessons(TARGET) == () and measured_steps(store, run_id) == []
    (match,) = base.winners(TARGET)
    assert match.winner.evaluation["evidence"] == "simulated"
    document = base.get_document(f"winner:{match.winner_id}")
    text = " ".join(base.get_chunk(chunk_id).text for chunk_id in match.chunk_ids)
    assert document.trust is Trust.DERIVED and "nothing was measured" in text and "Fastest measured" not in text
    console = Console(width=200, file=io.StringIO())
    with console.capture() as captured:
        console.print(outcome_table(result))
    assert "nothing was measured" in captured.get() and "(simulated)" in captured.get()


def test_no_measured_target_starts_from_a_simulated_winner(tmp_path: Path, base: KnowledgeBase) -> None:
    searched(tmp_path, base)
    for target in ("cpu", "cuda:sm_90", "mtia:300"):
        found = plan(base, PROBLEM, target, "hill", 8, 0.0)
        assert (found.same, found.siblings, found.similar) == ((), (), ())


def test_a_simulated_winner_ranks_after_every_measured_one_of_its_target(tmp_path: Path, base: KnowledgeBase) -> None:
    searched(tmp_path, base)
    (match,) = base.winners(TARGET)
    slow = {"eager": dataclasses.asdict(Interval(1.01, 1.0, 1.02))}
    measured = dataclasses.replace(
        match.winner, candidate_id="0" * 16, source="POINT = (1, 1)\n", evaluation={**match.winner.evaluation, "evidence": "measured", "speedup": slow}
    )  # fmt: skip
    base.add_winner(measured)
    same = plan(base, PROBLEM, TARGET, "hill", 8).same
    assert [item.winner.evaluation["evidence"] for item in same] == ["measured", "simulated"]
    other = dataclasses.replace(PROBLEM, source=PROBLEM.source + "# another size\n")
    siblings = plan(base, other, TARGET, "hill", 8).siblings
    assert [item.winner.evaluation["evidence"] for item in siblings] == ["measured", "simulated"]


def test_what_lint_refuses_on_a_simulated_target_is_simulated_too(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    run_id = create_run(store, PROBLEM, TARGET, config(evaluations=3))
    asyncio.run(drive(store, run_id, machinery(SimulatedLandscape(), EndingCoder(ideas=2), lint=lambda _: ("L00 line 1: no; never",))))
    assert {node.evaluation.evidence for node in store.nodes(run_id)} == {Evidence.SIMULATED}


def test_what_needs_measurements_refuses_a_simulated_target_and_says_what_simulates() -> None:
    assert resolve_target(TARGET, may_simulate=True) == TARGET
    with pytest.raises(MachineError, match=r"kevolve run PROBLEM --target mtia:2i.*simulated time"):
        resolve_target(TARGET)
    code, _, err = kevolve("run", "examples/swiglu.py", "--target", TARGET, "--evaluator", "http://localhost:1", "--home", "/nonexistent")
    assert code != 0 and "Traceback" not in err


def test_progress_tells_simulated_times_from_measured_ones() -> None:
    def told(evidence: str) -> list[str]:
        console = Console(record=True, file=io.StringIO(), width=200)
        with Progress(console, 4) as progress:
            data = {"candidate_id": "c", "status": "passed", "reason": "", "fitness": 2.0, "evidence": evidence}
            progress(Event("evaluated", data))
            progress(Event("remeasured", {**data, "fitness_search": 2.0}))
        return console.export_text().splitlines()

    assert told("simulated") == ["[1/4] c → fitness 2.000 (simulated)", "checked and simulated again at full effort: fitness 2.000 (search: 2.000), passed"]  # fmt: skip
    assert told("measured") == ["[1/4] c → fitness 2.000", "measured again at full effort: fitness 2.000 (search: 2.000), passed"]
