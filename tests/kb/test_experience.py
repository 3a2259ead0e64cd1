from __future__ import annotations

import dataclasses

import pytest

from kb.errors import UnknownNameError
from kb.store import KnowledgeBase
from kb.types import Filters, Kind, Lesson, Winner

WINNER = Winner(
    problem_id="examples/norm",
    problem_hash="a" * 64,
    signature="layer_norm float32 rank2 -> gelu",
    target="cpu",
    candidate_id="c1",
    source="class ModelNew: pass\n",
    language="cpp",
    provenance={"kernels": ["layer_norm_rows"], "tunables": {"threads": 2}},
    evaluation={"speedup": {"eager": {"value": 2.0, "low": 1.9, "high": 2.1}}},
    run_id="run1",
)
LESSON = Lesson(
    claim="Fusing GELU into the row normalisation saves a pass over memory.",
    preconditions={"target": "cpu", "anchor": "aten.layer_norm.default"},
    effect=1.4,
    effect_low=1.3,
    effect_high=1.5,
    evidence=("c1",),
    target="cpu",
    problem_id="examples/norm",
)


def other(candidate_id: str, **changes: str) -> Winner:
    return dataclasses.replace(WINNER, candidate_id=candidate_id, **changes)  # type: ignore[arg-type]  # only text fields are changed


def test_winners_come_by_problem_then_signature_then_likeness(base: KnowledgeBase) -> None:
    base.add_winner(other("far", problem_hash="c" * 64, signature="conv2d float16 rank4"))
    base.add_winner(other("sibling", problem_hash="b" * 64))
    base.add_winner(WINNER)
    found = base.winners("cpu", signature=WINNER.signature, problem_hash=WINNER.problem_hash)
    assert [(match.winner.candidate_id, match.match) for match in found] == [
        ("c1", "problem"),
        ("sibling", "signature"),
        ("far", "similar"),
    ]
    assert found[0].score == found[1].score == 1.0 > found[2].score >= 0.0


def test_nearer_signatures_rank_first(base: KnowledgeBase) -> None:
    base.add_winner(other("far", problem_hash="c" * 64, signature="conv2d float16 rank4"))
    base.add_winner(other("near", problem_hash="b" * 64, signature="layer_norm float16 rank2 -> gelu"))
    found = base.winners("cpu", signature=WINNER.signature)
    assert [match.winner.candidate_id for match in found] == ["near", "far"]


def test_winner_comes_back_equal_and_cites_its_chunks(base: KnowledgeBase) -> None:
    base.add_winner(WINNER)
    (match,) = base.winners("cpu", problem_hash=WINNER.problem_hash)
    assert match.winner == WINNER
    assert [base.get_chunk(chunk_id).document_id for chunk_id in match.chunk_ids] == [match.document_id] * len(match.chunk_ids)
    assert match.chunk_ids


def test_winners_of_other_targets_are_not_offered(base: KnowledgeBase) -> None:
    base.add_winner(other("gpu", target="cuda:sm_90"))
    assert base.winners("cpu", problem_hash=WINNER.problem_hash) == ()
    assert base.winners("rocm:gfx950") == ()
    assert len(base.winners("cuda:sm_90")) == 1


def test_adding_a_winner_twice_keeps_one(base: KnowledgeBase) -> None:
    assert base.add_winner(WINNER) == base.add_winner(WINNER)
    assert len(base.winners("cpu")) == 1
    assert not base.check().problems


def test_winners_and_lessons_are_found_by_search(base: KnowledgeBase) -> None:
    base.add_winner(WINNER)
    base.add_lesson(LESSON)
    assert base.query("layer_norm gelu", filters=Filters(kinds=(Kind.WINNER,))).hits[0].kind is Kind.WINNER
    assert base.query("fusing GELU", filters=Filters(kinds=(Kind.LESSON,), target="cpu")).hits[0].text.startswith(LESSON.claim)


def test_retired_winner_is_not_offered_and_not_found(base: KnowledgeBase) -> None:
    winner_id = base.add_winner(WINNER)
    base.retire_winner(winner_id)
    assert base.winners("cpu") == ()
    assert base.winners("cpu", include_retired=True)[0].status == "retired"
    assert not base.query("layer_norm").hits
    with pytest.raises(UnknownNameError):
        base.retire_winner("nothing")


def test_lesson_comes_back_equal_and_a_retired_one_leaves(base: KnowledgeBase) -> None:
    base.add_lesson(LESSON)
    (match,) = base.lessons("cpu", anchor="aten.layer_norm.default")
    assert match.lesson == LESSON
    base.add_lesson(dataclasses.replace(LESSON, status="retired"))
    assert base.lessons("cpu") == ()
    assert not base.query("GELU").hits


def test_promoted_lessons_come_first_and_questions_rank_them(base: KnowledgeBase) -> None:
    base.add_lesson(dataclasses.replace(LESSON, claim="More threads help the reduction.", status="promoted"))
    base.add_lesson(LESSON)
    assert base.lessons("cpu")[0].lesson.status == "promoted"
    assert "GELU" in base.lessons("cpu", "GELU fused into normalisation")[0].lesson.claim
    assert base.lessons("cpu", anchor="aten.mm.default") == ()


def test_lesson_without_evidence_cannot_be_made() -> None:
    with pytest.raises(ValueError, match="evidence"):
        dataclasses.replace(LESSON, evidence=())
