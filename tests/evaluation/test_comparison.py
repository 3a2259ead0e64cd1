"""The comparison of strategies: equal budgets, shared measurements, resumption, paired differences, anytime curves."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "agents"))

from landscape import PROBLEM, LandscapeEvaluator, config, machinery

from agents.errors import UnknownNameError
from agents.runs.store import RunStore
from evaluation.comparison import Plan, Search, SharedEvaluator, compare, paired, read
from evaluation.comparison_report import anytime, figure, ratio, render, write
from evaluation.errors import EvaluationError, RecordError


def plan(folder: Path, **more: object) -> Plan:
    values = {
        "strategies": ("one_shot", "greedy"),
        "problems": (PROBLEM,),
        "seeds": 2,
        "target": "cpu",
        "config": config(evaluations=7, finalists=1),
        "results": folder / "searches.jsonl",
    }
    return Plan(**{**values, **more})  # type: ignore[arg-type]  # test shorthand


def search(problem: str, strategy: str, seed: int, fitness: float, *curve: float) -> Search:
    return Search(problem, strategy, seed, "cpu", 4, fitness, curve or (fitness,), "c", 4, 4, 1.0, "done")


def test_every_search_gets_the_same_budget_and_no_candidate_is_measured_twice_for_one_purpose(tmp_path: Path) -> None:
    evaluator = LandscapeEvaluator()
    with RunStore(tmp_path) as store:
        found = compare(plan(tmp_path), store, machinery(evaluator))
    assert len(found) == 4 and all(item.num_evaluations <= 7 for item in found)
    assert len(evaluator.calls) == len(set(evaluator.calls))
    assert all(list(item.curve) == sorted(item.curve) for item in found)
    assert list(read(tmp_path / "searches.jsonl")) == found


def test_interrupted_comparison_goes_on_where_it_was(tmp_path: Path) -> None:
    class Interrupted(LandscapeEvaluator):
        def evaluate(self, *rest, **more):  # type: ignore[no-untyped-def]
            if len(self.calls) == 9:
                raise KeyboardInterrupt
            return super().evaluate(*rest, **more)

    with RunStore(tmp_path / "a") as store:
        with pytest.raises(KeyboardInterrupt):
            compare(plan(tmp_path / "a"), store, machinery(Interrupted()))
        before = len(read(tmp_path / "a" / "searches.jsonl"))
        evaluator = LandscapeEvaluator()
        resumed = compare(plan(tmp_path / "a"), store, machinery(evaluator))
    with RunStore(tmp_path / "b") as store:
        whole = LandscapeEvaluator()
        unbroken = compare(plan(tmp_path / "b"), store, machinery(whole))
    assert 1 <= before < 4
    assert [(item.strategy, item.seed, item.fitness, item.curve) for item in resumed] == [
        (item.strategy, item.seed, item.fitness, item.curve) for item in unbroken
    ]
    assert len(evaluator.calls) == len(whole.calls) - 9


def test_records_of_another_budget_are_refused(tmp_path: Path) -> None:
    with RunStore(tmp_path) as store:
        compare(plan(tmp_path, seeds=1), store, machinery())
        with pytest.raises(RecordError, match="another --results"):
            compare(plan(tmp_path, config=config(evaluations=9)), store, machinery())


def test_bad_plans_and_records_are_refused(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="nothing to compare"):
        plan(tmp_path, seeds=0)
    with pytest.raises(EvaluationError, match="named twice"):
        plan(tmp_path, strategies=("greedy", "greedy"))
    with pytest.raises(UnknownNameError, match="known: evolutionary"):
        plan(tmp_path, strategies=("annealing",))
    (tmp_path / "bad.jsonl").write_text(json.dumps({"schema": 99}) + "\n")
    with pytest.raises(RecordError, match=r"bad\.jsonl:1"):
        read(tmp_path / "bad.jsonl")
    with pytest.raises(RecordError, match=r"bad\.jsonl:1"):
        SharedEvaluator(LandscapeEvaluator(), tmp_path / "bad.jsonl")


def test_pairs_are_made_by_problem_and_seed_and_failures_count_as_the_baseline() -> None:
    searches = [
        search("p", "a", 0, 2.0),
        search("p", "a", 1, 0.0),
        search("p", "b", 0, 4.0),
        search("p", "b", 1, 1.5),
        search("q", "b", 0, 9.0),
    ]
    assert paired(searches, "b", "a") == {"p": [pytest.approx(math.log(2)), pytest.approx(math.log(1.5))]}


def test_ratio_is_a_geometric_mean_over_problems_with_an_interval_that_holds_it() -> None:
    interval = ratio({"p": [math.log(2), math.log(2)], "q": [math.log(0.5)]})
    assert interval.value == pytest.approx(1.0) and interval.low < 1.0 < interval.high
    same = ratio({"p": [math.log(3)] * 4, "q": [math.log(3)] * 4})
    assert same.low == pytest.approx(3.0) and same.high == pytest.approx(3.0)
    assert ratio({"p": [0.1, 0.4], "q": [0.2, 0.0]}) == ratio({"p": [0.1, 0.4], "q": [0.2, 0.0]})


def test_anytime_curve_keeps_the_best_of_searches_that_ended_early() -> None:
    searches = [search("p", "a", 0, 4.0, 1.0, 4.0), search("q", "a", 0, 1.0, 0.5)]
    assert anytime(searches, "a") == [pytest.approx(1.0), pytest.approx(2.0)]


def test_report_and_figure_come_from_the_records(tmp_path: Path) -> None:
    searches = [
        search(problem, name, seed, fitness, 1.0, fitness)
        for problem in "pq"
        for seed in range(3)
        for name, fitness in (("a", 2.0), ("b", 4.0))
    ]
    text = render(searches, "a", "kevolve compare")
    assert "| b | 4.000 | 2.000 [2.000, 2.000] | 6 / 0 / 0 |" in text and "1 (reference)" in text and "| q | 2.000 | 4.000 |" in text
    assert len(figure(searches).axes) == 3
    assert [path.name for path in write(searches, tmp_path, "a")] == ["report.md", "anytime.svg"]
