"""The outer loop on a synthetic landscape: budgets, duplicates, hangs, finalists, ends."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest
from landscape import EndingCoder, LandscapeEvaluator, WalkingCoder, candidate_at, config, machinery, point_of, search

from agents.coders.base import CoderTask, Draft
from agents.config import RunConfig
from agents.context import RunContext
from agents.errors import OptionError
from agents.runs.hashing import normalised_hash
from agents.types import Budget, Limits
from tools.types import UNMEASURABLE, Candidate, Status


class ScriptedCoder(WalkingCoder):
    """Writes given candidates in turn and keeps the tasks it was given; then has nothing new."""

    def __init__(self, *candidates: Candidate) -> None:
        super().__init__()
        self.candidates = list(candidates)
        self.tasks: list[CoderTask] = []

    async def write(self, task: CoderTask) -> Draft:
        self.tasks.append(task)
        return Draft(self.candidates.pop(0), "scripted") if self.candidates else Draft(None, exhausted=True)


def test_optimum_of_a_smooth_hill_is_found(tmp_path: Path) -> None:
    _, _, result = search(tmp_path, config(evaluations=30))
    assert result["best"]["fitness"] == 3.0  # type: ignore[index]  # JSON


@pytest.mark.parametrize("evaluations", [1, 2, 3, 9])
@pytest.mark.parametrize("width", [1, 8])
def test_evaluations_never_exceed_the_budget(tmp_path: Path, evaluations: int, width: int) -> None:
    evaluator = LandscapeEvaluator()
    _, _, result = search(tmp_path, config("evolutionary", evaluations, width=width), machinery(evaluator))
    assert result["num_evaluations"] == len(evaluator.calls) <= evaluations


def test_finalists_are_measured_again_at_full_effort_and_that_number_is_published(tmp_path: Path) -> None:
    evaluator = LandscapeEvaluator()
    _, _, result = search(tmp_path, config(evaluations=10), machinery(evaluator))
    efforts = [effort for _, effort in evaluator.calls]
    assert efforts == ["quick"] * 8 + ["full"] * 2
    assert result["num_remeasurements"] == 2 and result["best"]["is_remeasured"]  # type: ignore[index]  # JSON


def test_finalist_that_fails_at_full_effort_is_not_published(tmp_path: Path) -> None:
    class Strict(LandscapeEvaluator):
        def evaluate(self, candidate, problem, *, target, effort, seed):  # type: ignore[no-untyped-def]
            self.status = Status.WRONG_VALUES if effort.name == "full" and point_of(candidate) == (9, 4) else None
            return super().evaluate(candidate, problem, target=target, effort=effort, seed=seed)

    coder = ScriptedCoder(candidate_at((9, 4)), candidate_at((8, 4)))
    _, _, result = search(tmp_path, config(evaluations=9), machinery(Strict(), coder))
    assert "POINT = (8, 4)" in Path(result["best"]["source_path"]).read_text()  # type: ignore[index]  # JSON


def test_single_evaluation_runs_at_full_effort(tmp_path: Path) -> None:
    evaluator = LandscapeEvaluator()
    search(tmp_path, config(evaluations=1), machinery(evaluator))
    assert [effort for _, effort in evaluator.calls] == ["full"]


def test_seconds_are_kept_and_cap_the_evaluators_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluator = LandscapeEvaluator()
    clock = lambda: 3.0 * len(evaluator.calls)  # noqa: E731 - an evaluation takes three seconds, and nothing else takes any
    monkeypatch.setattr("agents.driver.RunContext", functools.partial(RunContext, clock=clock))
    _, _, result = search(tmp_path, config(evaluations=None, seconds=30.0), machinery(evaluator))
    assert "30 seconds" in str(result["reason"])
    assert 20.0 < result["seconds"] <= 30.0 and result["seconds"] == clock()  # type: ignore[operator]  # JSON
    assert 0 < min(evaluator.timeouts_s) < max(evaluator.timeouts_s) <= 15.0


def test_same_source_with_another_comment_is_never_evaluated_twice(tmp_path: Path) -> None:
    evaluator = LandscapeEvaluator()
    coder = ScriptedCoder(candidate_at((1, 1)), candidate_at((1, 1), "again"), candidate_at((2, 2)))
    store, run_id, _ = search(tmp_path, config(evaluations=20), machinery(evaluator, coder))
    assert [point for point, effort in evaluator.calls if effort == "quick"] == [(1, 1), (2, 2)]
    assert len(store.nodes(run_id)) == 2
    assert "repeats an earlier candidate" in coder.tasks[2].parents[-1].notes


def test_siblings_that_write_the_same_source_share_one_evaluation_and_one_node(tmp_path: Path) -> None:
    evaluator = LandscapeEvaluator(delay_s=0.05)
    coder = ScriptedCoder(candidate_at((1, 1)), candidate_at((1, 1)), candidate_at((1, 1)))
    store, run_id, result = search(tmp_path, config(evaluations=20, width=3), machinery(evaluator, coder))
    assert [effort for _, effort in evaluator.calls] == ["quick", "full"]
    assert len(store.nodes(run_id)) == 1 and result["num_evaluations"] == 2


def test_evaluations_take_turns_even_with_parallel_sessions(tmp_path: Path) -> None:
    evaluator = LandscapeEvaluator(delay_s=0.01)
    search(tmp_path, config("one_shot", 16, width=8), machinery(evaluator))
    assert evaluator.most_at_once == 1


def test_known_hang_is_skipped_by_later_runs(tmp_path: Path) -> None:
    search(tmp_path, config(evaluations=3), machinery(coder=ScriptedCoder(candidate_at((7, 7)))))
    evaluator = LandscapeEvaluator()
    store, run_id, _ = search(tmp_path, config(evaluations=3), machinery(evaluator, ScriptedCoder(candidate_at((7, 7), "other words"))))
    (node,) = store.nodes(run_id)
    assert evaluator.calls == []
    assert node.evaluation.status is Status.TIMEOUT and "known to run into" in node.evaluation.reason


def test_lint_errors_cost_no_evaluation_and_come_back_as_feedback(tmp_path: Path) -> None:
    evaluator = LandscapeEvaluator()
    coder = ScriptedCoder(candidate_at((1, 1)), candidate_at((9, 4)))
    tools = machinery(evaluator, coder, lint=lambda candidate: ("L01 line 2: bad; mend it",) if point_of(candidate) == (1, 1) else ())
    store, run_id, _ = search(tmp_path, config(evaluations=5), tools)
    assert [node.evaluation.status for node in store.nodes(run_id)] == [Status.LINT_ERROR, Status.PASSED]
    assert coder.tasks[1].parents[-1].evaluation.feedback.lint == ("L01 line 2: bad; mend it",)
    assert {point for point, _ in evaluator.calls} == {(9, 4)}


def test_session_repairs_a_failure_and_the_repair_hangs_on_it(tmp_path: Path) -> None:
    store, run_id, _ = search(tmp_path, config(evaluations=6), machinery(coder=ScriptedCoder(candidate_at((5, 1)), candidate_at((6, 1)))))
    first, second = store.nodes(run_id)
    assert (first.evaluation.status, second.evaluation.status) == (Status.WRONG_VALUES, Status.PASSED)
    assert second.parents == (first.node_id,) and second.session_id == first.session_id
    assert second.diagnosis["bottleneck"] == "correctness"


def test_session_goes_on_after_its_first_correct_candidate_and_builds_on_the_best_and_the_latest(tmp_path: Path) -> None:
    points = [(5, 1), (8, 4), (7, 4), (5, 2), (9, 4)]
    coder = ScriptedCoder(*(candidate_at(point) for point in points))
    settings = config("one_shot", 20, limits=Limits(attempts=2, polish=2), strategy_options={"drafts": "1"}, finalists=0)
    store, run_id, result = search(tmp_path, settings, machinery(coder=coder))
    assert [point_of(node.candidate) for node in store.nodes(run_id)] == points[:4]
    assert [point_of(parent.candidate) for parent in coder.tasks[3].parents] == [(8, 4), (7, 4)]
    assert "(8, 4)" in Path(result["best"]["source_path"]).read_text()  # type: ignore[index]  # JSON


def test_session_without_a_correct_candidate_gets_no_further_attempts(tmp_path: Path) -> None:
    coder = ScriptedCoder(*(candidate_at((5, index)) for index in range(6)))
    settings = config("one_shot", 20, limits=Limits(attempts=2, polish=2), strategy_options={"drafts": "1"}, finalists=0)
    search(tmp_path, settings, machinery(coder=coder))
    assert len(coder.tasks) == 2


def test_search_ends_when_the_coder_has_no_more_ideas(tmp_path: Path) -> None:
    _, _, result = search(tmp_path, config(evaluations=40), machinery(coder=EndingCoder(ideas=4)))
    assert result["num_nodes"] == 4 and "nothing new" in str(result["reason"])


def test_stall_window_and_threshold_end_the_search(tmp_path: Path) -> None:
    _, _, stalled = search(tmp_path / "a", config("one_shot", 30, stall_window=4))
    _, _, reached = search(tmp_path / "b", config("greedy", 30, fitness_threshold=1.5))
    assert "no better candidate" in str(stalled["reason"])
    assert "reached the threshold 1.5" in str(reached["reason"])


def test_failing_evaluator_ends_the_search_instead_of_blaming_candidates(tmp_path: Path) -> None:
    _, _, result = search(tmp_path, config(evaluations=40), machinery(LandscapeEvaluator(status=Status.HARNESS_ERROR)))
    assert result["best"] is None and result["status"] == "no_candidate"
    assert "evaluator failed 3 times" in str(result["reason"])


def test_a_search_without_a_winner_says_why_its_last_candidate_failed(tmp_path: Path) -> None:
    _, _, result = search(tmp_path, config(evaluations=3), machinery(LandscapeEvaluator(status=Status.COMPILE_ERROR)))
    assert result["best"] is None and "the last candidate: compile_error" in str(result["notes"])


def test_problem_that_cannot_be_measured_ends_the_search_after_the_first_round(tmp_path: Path) -> None:
    evaluator = LandscapeEvaluator(status=Status.NOT_MEASURED, labels=(UNMEASURABLE,))
    _, _, result = search(tmp_path, config(evaluations=40), machinery(evaluator))
    assert len(evaluator.calls) == 1
    assert "cannot be measured here" in str(result["reason"])


def test_history_holds_every_attempt_in_order_and_memory_follows_the_mode(tmp_path: Path) -> None:
    coder = ScriptedCoder(*(candidate_at((index, 2)) for index in (0, 1, 2, 3, 4)))
    search(tmp_path, config(evaluations=20), machinery(coder=coder))
    assert [point_of(attempt.candidate) for attempt in coder.tasks[4].history] == [(index, 2) for index in range(4)]
    draft, expansion = coder.tasks[2], coder.tasks[4]
    assert draft.remembered == () and draft.parents == ()
    assert {point_of(attempt.candidate) for attempt in expansion.remembered} >= {point_of(expansion.parents[0].candidate)}
    assert len({task.seed for task in coder.tasks}) == len(coder.tasks)


def test_hash_ignores_comments_and_docstrings_but_not_strings() -> None:
    def digest(source: str, **more: object) -> str:
        return normalised_hash(Candidate(source=source, **more))  # type: ignore[arg-type]  # test shorthand

    assert digest("def f():\n    return 'a'") == digest('def f():\n    """What."""\n    # why\n    return  "a"\n')
    assert digest("x = 'a'") != digest("x = 'b'")
    assert digest("x = 1") != digest("x = 1", build_options={"flag": "-O3"})
    assert digest("not python at all(") == digest("not python at all(\n\n")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 0}, "width must be at least 1"),
        ({"finalists": 5, "budget": Budget(evaluations=5)}, "leave nothing of 5"),
        ({"roofline_threshold": 1.5}, "fraction"),
        ({"coder": "llm"}, "needs a model"),
    ],
)
def test_contradictory_options_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        RunConfig(**options)  # type: ignore[arg-type]  # test shorthand


def test_config_survives_json() -> None:
    settings = RunConfig(strategy="mcts", budget=Budget(7, 8.5), limits=Limits(attempts=2), strategy_options={"alpha": "0.3"})
    assert RunConfig.from_json(settings.to_json()) == settings
