"""The contract that every strategy keeps, and what sets each of them apart."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from landscape import LandscapeEvaluator, config, machinery, search, shape

from agents.errors import OptionError, UnknownNameError
from agents.strategies.base import Expansion, Selection
from agents.strategies.memory_graph import MemoryGraph
from agents.strategies.places import Place
from agents.strategies.registry import STRATEGIES, create_strategy
from agents.types import Memory

EVERY = pytest.mark.parametrize("name", sorted(STRATEGIES))


def view(name: str, *nodes: tuple[str, tuple[str, ...], float], exhausted: tuple[tuple[str, ...], ...] = ()) -> MemoryGraph:
    graph = MemoryGraph(create_strategy(name).needs)
    for place_id, parents, fitness in nodes:
        graph.add(place_id, parents, fitness)
    for parents in exhausted:
        graph.exhaust(*parents)
    return graph


def grow(name: str, steps: int, width: int, seed: int = 0) -> tuple[list[Selection], MemoryGraph]:
    """Feed a strategy with random fitness for `steps` rounds."""
    strategy = create_strategy(name)
    fitness = random.Random(seed)
    graph = MemoryGraph(strategy.needs)
    selections = []
    for round_number in range(steps):
        selection = strategy.select(graph, random.Random(round_number), width)
        selections.append(selection)
        for index, expansion in enumerate(selection.expansions):
            graph.add(
                f"{round_number}.{index}",
                expansion.parents,
                max(0.0, fitness.uniform(-0.5, 3.0)),
                island=int(expansion.algorithm.get("island", 0)),
                generation=int(expansion.algorithm.get("generation", 0)),
                cell=fitness.choice("abc"),
                ucb=expansion.algorithm.get("ucb"),
            )
    return selections, graph


@EVERY
@pytest.mark.parametrize("width", [1, 4])
def test_selection_expands_known_nodes_and_never_more_than_the_width(name: str, width: int) -> None:
    selections, _ = grow(name, 40, width)
    known: set[str] = set()
    for round_number, selection in enumerate(selections):
        assert 1 <= len(selection.expansions) <= width
        assert all(set(expansion.parents) <= known for expansion in selection.expansions)
        known |= {f"{round_number}.{index}" for index in range(len(selection.expansions))}


@EVERY
def test_equal_views_and_seeds_give_equal_selections(name: str) -> None:
    _, graph = grow(name, 25, 2)
    strategy = create_strategy(name)
    assert strategy.select(graph, random.Random(7), 3) == create_strategy(name).select(graph, random.Random(7), 3)
    assert strategy.select(graph, random.Random(7), 3) == strategy.select(graph, random.Random(7), 3)


@EVERY
def test_strategy_stops_when_the_coder_has_nothing_for_any_node(name: str) -> None:
    graph = view(name, ("a", (), 1.0), ("b", ("a",), 2.0), exhausted=((), ("a",), ("b",)))
    selection = create_strategy(name).select(graph, random.Random(0), 2)
    assert selection.stop and not selection.expansions


@EVERY
def test_search_keeps_the_budget_and_repeats_with_the_same_seed(tmp_path: Path, name: str) -> None:
    evaluator = LandscapeEvaluator()
    store, run_id, result = search(tmp_path / "a", config(name, 14, seed=4), machinery(evaluator))
    again, again_id, _ = search(tmp_path / "b", config(name, 14, seed=4))
    assert result["num_evaluations"] == len(evaluator.calls) <= 14
    assert shape(store, run_id) == shape(again, again_id)
    bests = [event.data["best_fitness"] for event in store.events(run_id, "recorded")]
    assert bests == sorted(bests)
    assert result["best"]["fitness"] == bests[-1]  # type: ignore[index]  # JSON


def test_one_shot_writes_independent_drafts_only() -> None:
    selections, graph = grow("one_shot", 10, 2)
    assert not any(node.parents for node in graph.nodes)
    assert {expansion.memory for selection in selections for expansion in selection.expansions} == {Memory.CLEAN}
    assert create_strategy("one_shot", {"drafts": "20"}).select(graph, random.Random(0), 2).stop


def test_linear_is_a_chain() -> None:
    _, graph = grow("linear", 10, 4)
    assert [node.parents for node in graph.nodes] == [(), *((f"{index}.0",) for index in range(9))]


def test_greedy_drafts_and_then_expands_the_fittest() -> None:
    strategy = create_strategy("greedy", {"drafts": "2"})
    nodes = [("a", (), 1.0), ("b", (), 2.0), ("c", ("b",), 1.5)]
    assert strategy.select(view("greedy", nodes[0]), random.Random(0), 4).expansions == (Expansion(),)
    assert strategy.select(view("greedy", *nodes), random.Random(0), 1).expansions == (Expansion(("b",), Memory.BOTH),)
    assert strategy.select(view("greedy", *nodes, exhausted=(("b",),)), random.Random(0), 1).expansions[0].parents == ("c",)


def test_mcts_explores_more_with_a_larger_constant() -> None:
    nodes = [
        ("good", (), 3.0),
        *((f"poor{index}", (), 1.0) for index in range(3)),
        *((f"child{index}", ("good",), 1.0) for index in range(4)),
    ]
    options = {"widening": "1", "alpha": "0.5"}
    greedy = create_strategy("mcts", {**options, "exploration": "0"}).select(view("mcts", *nodes), random.Random(0), 1)
    curious = create_strategy("mcts", {**options, "exploration": "5"}).select(view("mcts", *nodes), random.Random(0), 1)
    assert greedy.expansions[0].parents[0] in {"good", *(f"child{index}" for index in range(4))}
    assert curious.expansions[0].parents[0].startswith("poor")


def test_mcts_sends_simultaneous_sessions_to_different_places() -> None:
    _, graph = grow("mcts", 30, 1)
    parents = [expansion.parents for expansion in create_strategy("mcts").select(graph, random.Random(0), 4).expansions]
    assert len(set(parents)) >= 3


def test_evolution_crosses_two_parents_of_one_island_and_migrates_between_islands() -> None:
    selections, graph = grow("evolutionary", 90, 1)
    expansions = [expansion for selection in selections for expansion in selection.expansions]
    island = {node.place_id: node.island for node in graph.nodes}
    crossed = [item for item in expansions if len(item.parents) == 2]
    migrated = [item for item in expansions if item.algorithm["operator"] == "migration"]
    assert crossed and all({island[parent] for parent in item.parents} == {item.algorithm["island"]} for item in crossed)
    assert migrated and all(island[item.parents[0]] != item.algorithm["island"] for item in migrated)
    assert {item.algorithm["island"] for item in expansions} == {0, 1, 2}


@EVERY
def test_statistics_as_of_any_step_follow_from_the_changes(name: str) -> None:
    strategy = create_strategy(name)
    graph, log, seen = MemoryGraph(strategy.needs), [], []
    fitness = random.Random(3)
    for number in range(30):
        for expansion in strategy.select(graph, random.Random(number), 1).expansions:
            log += graph.add(str(number), expansion.parents, fitness.random(), island=int(expansion.algorithm.get("island", 0)))
        seen.append(dict(graph.places))
    for step in (0, 7, 29):
        past = MemoryGraph()
        past.put(
            Place(p.place_id, p.kind, p.parents, p.fitness, p.position, p.cell, p.island, p.generation) for p in graph.nodes[: step + 1]
        )
        past.apply(change for change in log if change.step <= step)
        assert {key: place for key, place in past.places.items() if place.kind != "pair"} == seen[step]


def test_place_dies_with_its_last_open_descendant_and_lives_again_with_a_new_child() -> None:
    graph = view("mcts", ("a", (), 1.0), ("b", ("a",), 1.0), exhausted=(("a",), ("b",)))
    assert not graph.place("b").is_alive and not graph.place("a").is_alive and graph.place().is_alive
    graph.add("c", ("b",), 1.0)
    assert graph.place("b").is_alive and graph.place("a").is_alive and not graph.place("a").is_open


def test_unknown_strategy_lists_the_known() -> None:
    with pytest.raises(UnknownNameError, match="evolutionary, greedy, linear, mcts, one_shot"):
        create_strategy("annealing")


@pytest.mark.parametrize(
    ("name", "options", "error", "message"),
    [
        ("greedy", {"draft": "3"}, UnknownNameError, "it has: drafts"),
        ("linear", {"drafts": "3"}, UnknownNameError, "it has: none"),
        ("greedy", {"drafts": "many"}, OptionError, "'many'"),
        ("greedy", {"drafts": "-1"}, OptionError, "at least 0"),
        ("evolutionary", {"islands": "0"}, OptionError, "at least 1"),
    ],
)
def test_bad_strategy_option_is_refused(name: str, options: dict[str, str], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        create_strategy(name, options)
