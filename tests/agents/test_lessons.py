"""What a run teaches: lessons rest on measured steps, earlier lessons are confirmed and contradicted by measurements alone, and a model's words change no number."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from landscape import PROBLEM, LandscapeEvaluator, candidate_at, config, evaluation_of, machinery, search
from langchain_core.messages import AIMessage
from test_llm_coder import ScriptedModel
from test_search import ScriptedCoder

from agents.advisers import Advisers
from agents.chat_models.client import ChatClient
from agents.coders.base import CoderTask, Draft
from agents.config import ModelOptions
from agents.lessons import COMPARED_WITH, PARENT, RunFacts, effect_between, lessons_of, measured_steps
from kb.store import KnowledgeBase
from kb.types import Lesson
from tools.types import Status

ABOUT = RunFacts(PROBLEM, "cpu", "hill", {"torch": "2"})


@pytest.fixture
def base(tmp_path: Path) -> Iterator[KnowledgeBase]:
    with KnowledgeBase.open(tmp_path / "kb", embedder="hashing") as opened:
        yield opened


class Walk(ScriptedCoder):
    """Goes through points in turn and cites chunks from the second on."""

    def __init__(self, *points: tuple[int, int], cites: tuple[str, ...] = ()) -> None:
        super().__init__(*(candidate_at(point) for point in points))
        self._cites = cites

    async def write(self, task: CoderTask) -> Draft:
        draft = await super().write(task)
        if task.parents and draft.candidate is not None:
            return Draft(draft.candidate, "moved on", self._cites)
        return draft


def run(
    home: Path, base: KnowledgeBase, coder: ScriptedCoder, advisers: Advisers | None = None, fitness: Any = None
) -> tuple[Any, str, Any]:
    evaluator = LandscapeEvaluator(fitness=fitness) if fitness else LandscapeEvaluator()
    tools = machinery(evaluator, coder, base=base, advisers=advisers)  # type: ignore[arg-type]  # another coder
    return search(home, config("linear", 3, finalists=1), tools)


def reflecting(answer: Any) -> tuple[Advisers, ScriptedModel]:
    model = ScriptedModel(script=[AIMessage(answer if isinstance(answer, str) else json.dumps(answer))])
    return Advisers({"reflection": ChatClient(model, ModelOptions(name="scripted:x"), role="reflection")}), model


def rising(point: tuple[int, int]) -> float:
    return 1.0 + point[0]


def earlier(base: KnowledgeBase, **more: Any) -> tuple[str, str]:
    """Store a lesson about a change; return its id and the id of a chunk of it."""
    conditions = {"target": "cpu", COMPARED_WITH: PARENT, **more}
    lesson = Lesson("Wider rows are faster.", conditions, 1.3, 1.2, 1.4, ("old",), "cpu", "another/problem")
    lesson_id = base.add_lesson(lesson)
    (chunk, *_) = [hit.chunk_id for hit in base.query("Wider rows are faster").hits]
    return lesson_id, chunk


def test_effect_allows_every_ratio_of_the_two_intervals() -> None:
    before, after = (evaluation_of(candidate_at((1, 1)), Status.PASSED, fitness) for fitness in (1.0, 2.0))
    effect = effect_between(before, after)
    assert effect is not None and effect.value == pytest.approx(2.0)
    assert effect.low == pytest.approx(1.9 / 1.05) and effect.high == pytest.approx(2.1 / 0.95)
    assert effect_between(before, evaluation_of(candidate_at((5, 1)), Status.WRONG_VALUES)) is None


def test_lesson_of_a_model_gets_its_numbers_and_evidence_from_the_step(tmp_path: Path, base: KnowledgeBase) -> None:
    said = {
        "lessons": [
            {"step": 1, "claim": "Moving on helps 50 times over.", "preconditions": {"shape": "rows > 4", "made_up": "x", "dtype": 7}}
        ]
    }
    advisers, model = reflecting(said)
    store, run_id, _ = run(tmp_path, base, Walk((0, 0), (2, 0)), advisers, rising)
    (event,) = store.events(run_id, "reflected")
    (lesson,) = [match.lesson for match in base.lessons("cpu") if COMPARED_WITH in match.lesson.preconditions]
    assert event.data["lessons"] and lesson.effect == pytest.approx(3.0) and lesson.effect_low > 1.0
    assert lesson.preconditions["shape"] == "rows > 4" and not {"made_up", "dtype"} & set(lesson.preconditions)
    assert {candidate_at((0, 0)).candidate_id, candidate_at((2, 0)).candidate_id} <= set(lesson.evidence)
    assert "effect 3.000" in str(model.asked[0][1].content) and "moved on" in str(model.asked[0][1].content)


@pytest.mark.parametrize("answer", ["", "no JSON", {"lessons": "x"}, {"lessons": [{"step": 9, "claim": "c"}]}, {"lessons": [{"step": True, "claim": "c"}]}, {"lessons": [{"step": 1, "claim": "  "}]}, {"lessons": [7], "tested": [7]}])  # fmt: skip
def test_answer_that_names_no_measured_step_teaches_nothing(tmp_path: Path, base: KnowledgeBase, answer: Any) -> None:
    store, run_id, result = run(tmp_path, base, Walk((0, 0), (2, 0)), reflecting(answer)[0], rising)
    assert [event.data["lessons"] for event in store.events(run_id, "reflected")] == [[]] and result["best"] is not None


def test_step_within_the_noise_is_no_evidence_and_the_model_is_not_even_asked(tmp_path: Path, base: KnowledgeBase) -> None:
    advisers, model = reflecting({"lessons": [{"step": 1, "claim": "It helps."}]})
    store, run_id, _ = run(tmp_path, base, Walk((0, 0), (2, 0)), advisers, lambda point: 1.0 + 0.01 * point[0])
    (step,) = measured_steps(store, run_id)
    assert not step.is_certain and not model.asked and lessons_of({"lessons": [{"step": 1, "claim": "It helps."}]}, [step], ABOUT) == []


@pytest.mark.parametrize(("fitness", "speaks"), [(rising, "for"), (lambda point: 3.0 - point[0], "against")])
def test_cited_lesson_is_confirmed_or_contradicted_by_the_step_that_cites_it(
    tmp_path: Path, base: KnowledgeBase, fitness: Any, speaks: str
) -> None:
    lesson_id, chunk = earlier(base)
    store, run_id, _ = run(tmp_path, base, Walk((0, 0), (2, 0), cites=(chunk,)), fitness=fitness)
    (event,) = store.events(run_id, "reflected")
    assert [(item["lesson_id"], item["speaks"]) for item in event.data["tested"]] == [(lesson_id, speaks)]
    assert [item.problem_id for item in base.lesson_evidence(lesson_id)][-1] == PROBLEM.problem_id
    (match,) = [match for match in base.lessons("cpu") if match.lesson_id == lesson_id]
    assert (match.lesson.effect > 1.3) is (speaks == "for")


@pytest.mark.parametrize("conditions", [{"anchor": "another operator"}, {"precision_class": "tf32"}])
def test_measurement_outside_the_preconditions_says_nothing_about_a_lesson(
    tmp_path: Path, base: KnowledgeBase, conditions: dict[str, str]
) -> None:
    lesson_id, chunk = earlier(base, **conditions)
    run(tmp_path, base, Walk((0, 0), (2, 0), cites=(chunk,)), fitness=rising)
    assert [item.evidence_id for item in base.lesson_evidence(lesson_id)] == ["old"]


def test_model_recognises_a_test_of_an_earlier_lesson_and_the_measurement_judges_it(tmp_path: Path, base: KnowledgeBase) -> None:
    lesson_id, _ = earlier(base)
    advisers, model = reflecting({"tested": [{"lesson_id": lesson_id, "step": 1}, {"lesson_id": "invented", "step": 1}]})
    store, run_id, _ = run(tmp_path, base, Walk((0, 0), (2, 0)), advisers, lambda point: 3.0 - point[0])
    (event,) = store.events(run_id, "reflected")
    assert [(item["lesson_id"], item["speaks"]) for item in event.data["tested"]] == [(lesson_id, "against")]
    assert lesson_id in str(model.asked[0][1].content)


def test_run_whose_winner_cites_a_lesson_on_whole_kernels_is_evidence_for_it(tmp_path: Path, base: KnowledgeBase) -> None:
    lesson_id = base.add_lesson(Lesson("Such kernels win.", {"target": "cpu"}, 1.5, 1.4, 1.6, ("old",), "cpu", "another/problem"))
    (chunk, *_) = [hit.chunk_id for hit in base.query("Such kernels win").hits]
    run(tmp_path, base, Walk((0, 0), (2, 0), cites=(chunk,)), fitness=rising)
    evidence = base.lesson_evidence(lesson_id)
    assert len(evidence) == 2 and evidence[-1].effect == pytest.approx(3.0) and base.lessons("cpu")[0].lesson.status == "promoted"
