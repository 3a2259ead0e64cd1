"""The contract that every strategy keeps, and what sets each of them apart."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from landscape import LandscapeEvaluator, config, deceptive, machinery, search, shape

from agents.errors import OptionError, UnknownNameError
from agents.strategies.base import Expansion, GraphView, NodeView, Selection, best_of
from agents.strategies.registry import STRATEGIES, create_strategy
from agents.types import Memory

EVERY = pytest.mark.parametrize("name", sorted(STRATEGIES))


def view(*nodes: NodeView, exhausted: dict[tuple[str, ...], int] | None = None) -> GraphView:
    return GraphView(nodes=nodes, exhausted=exhausted or {})


def grow(name: str, steps: int, width: int, seed: int = 0) -> tuple[list[Selection], GraphView]:
    """Feed a strategy with random fitness for `steps` rounds."""
    strategy = create_strategy(name)
    fitness = random.Random(seed)
    graph = GraphView()
    selections = []
    for round_number in range(steps):
        selection = strategy.select(graph, random.Random(round_number), width)
        selections.append(selection)
        new = [
            NodeView(
                node_id=f"{round_number}.{index}",
                parents=expansion.parents,
                fitness=max(0.0, fitness.uniform(-0.5, 3.0)),
                round=round_number,
                algorithm=expansion.algorithm,
                features={"kind": fitness.choice("abc")},
            )
            for index, expansion in enumerate(selection.expansions)
        ]
        graph = GraphView(nodes=(*graph.nodes, *new), exhausted=graph.exhausted)
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
    nodes = [NodeView("a", (), 1.0), NodeView("b", ("a",), 2.0)]
    selection = create_strategy(name).select(view(*nodes, exhausted={(): 2, ("a",): 2, ("b",): 2}), random.Random(0), 2)
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
    nodes = [NodeView("a", (), 1.0), NodeView("b", (), 2.0), NodeView("c", ("b",), 1.5)]
    assert strategy.select(view(nodes[0]), random.Random(0), 4).expansions == (Expansion(),)
    assert strategy.select(view(*nodes), random.Random(0), 1).expansions == (Expansion(("b",), Memory.BOTH),)
    assert strategy.select(view(*nodes, exhausted={("b",): 2}), random.Random(0), 1).expansions[0].parents == ("c",)


def test_mcts_explores_more_with_a_larger_constant() -> None:
    nodes = [NodeView("good", (), 3.0)] + [NodeView(f"poor{index}", (), 1.0) for index in range(3)]
    nodes += [NodeView(f"child{index}", ("good",), 1.0) for index in range(4)]
    options = {"widening": "1", "alpha": "0.5"}
    greedy = create_strategy("mcts", {**options, "exploration": "0"}).select(view(*nodes), random.Random(0), 1)
    curious = create_strategy("mcts", {**options, "exploration": "5"}).select(view(*nodes), random.Random(0), 1)
    assert greedy.expansions[0].parents[0] in {"good", *(f"child{index}" for index in range(4))}
    assert curious.expansions[0].parents[0].startswith("poor")


def test_mcts_sends_simultaneous_sessions_to_different_places() -> None:
    _, graph = grow("mcts", 30, 1)
    parents = [expansion.parents for expansion in create_strategy("mcts").select(graph, random.Random(0), 4).expansions]
    assert len(set(parents)) >= 3


def test_evolution_crosses_two_parents_of_one_island_and_migrates_between_islands() -> None:
    selections, graph = grow("evolutionary", 90, 1)
    expansions = [expansion for selection in selections for expansion in selection.expansions]
    island = {node.node_id: node.algorithm["island"] for node in graph.nodes}
    crossed = [item for item in expansions if len(item.parents) == 2]
    migrated = [item for item in expansions if item.algorithm["operator"] == "migration"]
    assert crossed and all({island[parent] for parent in item.parents} == {item.algorithm["island"]} for item in crossed)
    assert migrated and all(island[item.parents[0]] != item.algorithm["island"] for item in migrated)
    assert {item.algorithm["island"] for item in expansions} == {0, 1, 2}


def climb(name: str, seed: int, steps: int) -> float:
    """Let a strategy search the deceptive landscape with steps of one, and return the best fitness."""
    strategy = create_strategy(name)
    rng = random.Random(seed)
    points: dict[str, tuple[int, int]] = {}
    graph = GraphView()
    for number in range(steps):
        (expansion,) = strategy.select(graph, random.Random(1000 * seed + number), 1).expansions
        if expansion.parents:
            place = [points[parent] for parent in expansion.parents]
            x, y = (sum(axis) // len(axis) for axis in zip(*place, strict=True))
            point = min(max(x + rng.choice([-1, 0, 1]), 0), 11), min(max(y + rng.choice([-1, 0, 1]), 0), 11)
        else:
            point = rng.randrange(12), rng.randrange(12)
        points[str(number)] = point
        node = NodeView(str(number), expansion.parents, deceptive(point), number, expansion.algorithm, {"half": str(point[0] > 5)})
        graph = GraphView(nodes=(*graph.nodes, node))
    best = best_of(graph.nodes)
    assert best is not None
    return best.fitness


def test_mcts_and_islands_leave_the_deceptive_slope_more_often_than_greedy() -> None:
    escaped = {name: sum(climb(name, seed, 60) > 2 for seed in range(30)) for name in ("greedy", "mcts", "evolutionary")}
    assert escaped["mcts"] > escaped["greedy"] < escaped["evolutionary"]


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
