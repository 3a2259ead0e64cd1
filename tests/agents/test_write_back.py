"""What a run leaves in the knowledge base, and how the next one starts from it."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
from landscape import PROBLEM, LandscapeEvaluator, WalkingCoder, config, deceptive, machinery, search
from test_search import ScriptedCoder, candidate_at

from agents.driver import create_run, drive
from agents.planner import Plan
from agents.runs.store import RunStore
from kb.store import KnowledgeBase


@pytest.fixture
def base(tmp_path: Path) -> Iterator[KnowledgeBase]:
    with KnowledgeBase.open(tmp_path / "kb", embedder="hashing") as opened:
        yield opened


def test_winner_and_lesson_are_written_and_the_next_run_starts_from_them(tmp_path: Path, base: KnowledgeBase) -> None:
    _, run_id, first = search(tmp_path, config(evaluations=30), machinery(base=base))
    (match,) = base.winners("cpu")
    (lesson,) = base.lessons("cpu")
    assert match.winner.run_id == run_id and match.winner.signature == "hill"
    assert first["lesson_id"] == lesson.lesson_id and lesson.lesson.effect_low > 1.0
    assert match.winner.candidate_id in lesson.lesson.evidence
    evaluator = LandscapeEvaluator()
    _, _, second = search(tmp_path, config(evaluations=2), machinery(evaluator, base=base))
    assert second["best"]["fitness"] == first["best"]["fitness"]  # type: ignore[index]  # JSON
    assert [item["run_id"] for item in second["started_from"]["same"]] == [run_id]  # type: ignore[index]  # JSON
    assert any(item["chunk_id"] in match.chunk_ids for item in second["knowledge_used"])  # type: ignore[attr-defined]  # JSON


def test_sibling_problem_gets_the_winner_as_material_not_as_a_draft(tmp_path: Path, base: KnowledgeBase) -> None:
    search(tmp_path, config(evaluations=9), machinery(base=base))
    sibling = dataclasses.replace(PROBLEM, problem_id="synthetic/other", source=PROBLEM.source + "# another size\n")
    store = RunStore(tmp_path)
    coder = ScriptedCoder(candidate_at((1, 1)))
    run_id = create_run(store, sibling, "cpu", config(evaluations=3))
    result = asyncio.run(drive(store, run_id, machinery(coder=coder, base=base)))
    assert result["started_from"]["same"] == [] and len(result["started_from"]["siblings"]) == 1
    assert [winner.problem_id for winner in coder.tasks[0].winners] == [PROBLEM.problem_id]


def test_no_lesson_without_a_certain_gain_but_the_winner_is_kept_with_its_honest_interval(tmp_path: Path, base: KnowledgeBase) -> None:
    coder = ScriptedCoder(candidate_at((9, 9)))
    tools = machinery(LandscapeEvaluator(fitness=lambda point: 1.02), coder, base=base)
    _, _, result = search(tmp_path, config(evaluations=3), tools)
    assert result["lesson_id"] is None and base.lessons("cpu") == ()
    (match,) = base.winners("cpu")
    assert match.winner.evaluation["speedup"]["compiled"]["low"] < 1.0


def test_nothing_is_written_when_nothing_passed(tmp_path: Path, base: KnowledgeBase) -> None:
    _, _, result = search(tmp_path, config(evaluations=3), machinery(coder=ScriptedCoder(candidate_at((5, 5))), base=base))
    assert result["best"] is None and result["winner_id"] is None
    assert base.winners("cpu") == ()


def test_run_without_knowledge_neither_reads_nor_writes(tmp_path: Path, base: KnowledgeBase) -> None:
    _, _, result = search(tmp_path, config(evaluations=6), machinery(LandscapeEvaluator(fitness=deceptive), WalkingCoder()))
    assert result["knowledge_used"] == [] and result["winner_id"] is None
    assert base.winners("cpu") == ()


def test_run_starts_from_the_winner_of_a_sibling_and_injects_others_at_its_rate(tmp_path: Path, base: KnowledgeBase) -> None:
    for number, evaluations in enumerate((9, 12)):
        known = dataclasses.replace(PROBLEM, problem_id=f"synthetic/size-{number}", source=f"{PROBLEM.source}# size {number}\n")
        store = RunStore(tmp_path)
        asyncio.run(drive(store, create_run(store, known, "cpu", config(evaluations=evaluations, seed=number)), machinery(base=base)))
    store = RunStore(tmp_path)
    winners = {match.winner_id for match in base.winners("cpu")}

    def from_history(**options: object) -> list[bool]:
        run_id = create_run(store, PROBLEM, "cpu", config(evaluations=10, seed=7, write_back=False, **options))
        result = asyncio.run(drive(store, run_id, machinery(base=base)))
        assert len(result["started_from"]["siblings"]) == 2
        return [node.candidate.provenance.get("winner_id") in winners for node in store.nodes(run_id)]

    (first, *later) = from_history()
    assert first and not any(later)
    (first, *later) = from_history(injection_rate=0.9)
    assert first and any(later)
    assert not any(from_history(reuse=False))


@pytest.mark.parametrize(("coder", "labels"), [("library", []), ("walking", ["shape_specialised"])])
def test_winner_that_only_fits_its_own_problem_is_material_for_a_sibling_but_no_draft(
    tmp_path: Path, base: KnowledgeBase, coder: str, labels: list[str]
) -> None:
    search(tmp_path, config(evaluations=9), machinery(base=base))
    (match,) = base.winners("cpu")
    assert Plan(siblings=(match,)).foreign_drafts() == (match,)
    winner = dataclasses.replace(match.winner, provenance={"coder": coder}, evaluation={**match.winner.evaluation, "labels": labels})
    assert Plan(siblings=(dataclasses.replace(match, winner=winner),)).foreign_drafts() == ()


def test_nothing_is_written_back_where_that_is_switched_off(tmp_path: Path, base: KnowledgeBase) -> None:
    _, _, result = search(tmp_path, config(evaluations=9, write_back=False), machinery(base=base))
    assert result["best"] is not None and result["winner_id"] is None and base.winners("cpu") == ()
