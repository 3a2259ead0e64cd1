"""What theory says about the strategies, on landscapes with a known optimum and fixed seeds."""

from __future__ import annotations

import random
import statistics

import pytest

from agents.strategies.registry import STRATEGIES
from evaluation.landscapes import (
    ESCAPED,
    LANDSCAPES,
    OPTIMUM,
    THEORY,
    bandit_regret,
    child,
    climb,
    curves,
    deceptive,
    draft,
    needle,
    plateau,
    random_search,
    rugged,
    smooth,
    table,
)

BY_NAME = {landscape.name: landscape for landscape in LANDSCAPES}


@pytest.mark.parametrize("name", sorted(BY_NAME))
def test_optimum_is_one_and_nothing_is_better(name: str) -> None:
    rng = random.Random(0)
    fitness = BY_NAME[name].fitness
    assert fitness(OPTIMUM) == pytest.approx(1.0)
    assert all(0.0 <= fitness(draft(rng)) < 1.0 + 1e-9 for _ in range(2000))


def test_landscapes_have_the_shapes_they_are_named_for() -> None:
    near = (5, *OPTIMUM[1:])
    assert smooth(near) < 1.0 and plateau(near) == plateau((4, *OPTIMUM[1:])) and needle(near) == needle((0,) * 5)
    assert deceptive((0,) * 5) > deceptive((1, 0, 0, 0, 0)) > deceptive((2, 2, 0, 0, 0))
    rng = random.Random(1)
    peaks = 0
    for _ in range(300):
        point = draft(rng)
        steps = [(*point[:i], v, *point[i + 1 :]) for i in range(5) for v in (point[i] - 1, point[i] + 1) if 0 <= v <= 7]
        peaks += all(rugged(step) <= rugged(point) for step in steps)
    assert peaks >= 5  # a smooth hill has one peak in 32,768 points


@pytest.mark.parametrize("name", sorted(STRATEGIES))
def test_equal_seeds_give_equal_traces_and_the_best_never_gets_worse(name: str) -> None:
    trace = climb(BY_NAME["rugged"], name, 3, 60)
    assert trace == climb(BY_NAME["rugged"], name, 3, 60)
    assert list(trace.best) == sorted(trace.best) and len(trace.best) == 60


@pytest.mark.parametrize("name", sorted(BY_NAME))
def test_one_shot_equals_random_search(name: str) -> None:
    for seed in range(3):
        assert climb(BY_NAME[name], "one_shot", seed, 80).best == random_search(BY_NAME[name], seed, 80).best


def test_mcts_and_islands_leave_the_decoy_where_greedy_stays() -> None:
    found = {
        name: sum(climb(BY_NAME["deceptive"], name, seed, 500).best[-1] > ESCAPED for seed in range(10))
        for name in ("greedy", "mcts", "evolutionary")
    }
    assert found["greedy"] == 0
    assert found["mcts"] >= 2 and found["evolutionary"] >= 7


def test_following_the_best_is_right_on_a_smooth_hill_and_memory_beats_none() -> None:
    final = {
        name: statistics.mean(climb(BY_NAME["smooth"], name, seed, 150).best[-1] for seed in range(6))
        for name in ("greedy", "evolutionary", "one_shot")
    }
    assert final["greedy"] > final["one_shot"] + 0.05 and final["evolutionary"] > final["one_shot"] + 0.05


def test_regret_of_the_mcts_rule_grows_sublinearly() -> None:
    rows = [bandit_regret((0.8, 0.6, 0.5, 0.4), seed, 800, {"exploration": str(THEORY)}) for seed in range(3)]
    early, late = (statistics.mean(row[index] for row in rows) for index in (199, 799))
    assert late < 2.5 * early  # four times the pulls; logarithmic growth adds a quarter
    assert late < 0.25 * 800 * (0.8 - 0.575)  # far below choosing at random


def test_child_of_two_parents_takes_from_both_and_of_one_changes_one_coordinate() -> None:
    rng = random.Random(0)
    crossed = [child([(0,) * 5, (7,) * 5], rng) for _ in range(50)]
    assert any(0 in point and 7 in point for point in crossed)
    assert all(sum(a != b for a, b in zip(child([(3,) * 5], rng), (3,) * 5, strict=True)) <= 1 for _ in range(50))


def test_table_and_figure_hold_every_landscape() -> None:
    traces = [climb(landscape, "greedy", seed, 5) for landscape in LANDSCAPES for seed in range(2)]
    text = table(traces)
    assert all(landscape.claim in text for landscape in LANDSCAPES)
    assert len(curves(traces).axes) == 6
