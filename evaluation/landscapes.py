"""Synthetic landscapes with known optima, and the real strategies on them, without a model, a compiler or a clock.

    python -m evaluation.landscapes --out evaluation/results/landscapes

A point is a tuple of 5 numbers from 0 to 7, as a kernel is a vector of choices. A draft is a random point; an expansion changes one coordinate of the
parent by one (or, one time in ten, to any value); a crossover takes each coordinate from one of two parents. Fitness lies between 0 and 1 and the optimum
is 1, reached at one known point.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import math
import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from agents.strategies.memory_graph import MemoryGraph
from agents.strategies.registry import STRATEGIES, create_strategy

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NUM_COORDINATES = 5
NUM_VALUES = 8
JUMP = 0.1
"""Share of expansions that set a coordinate to any value."""
DECOY = 0.7
"""Fitness at the decoy of the deceptive landscape."""
ESCAPED = 0.9
"""Fitness that only points within a step or two of the optimum have: a search that gets there has left the decoy behind."""
THEORY = 2**0.5
"""Exploration constant of UCB1."""

Point = tuple[int, ...]
OPTIMUM: Point = (6,) * NUM_COORDINATES


@dataclass(frozen=True)
class Landscape:
    """A function to maximise."""

    name: str
    claim: str
    """What makes it hard, in a sentence."""
    fitness: Callable[[Point], float]
    """True fitness of a point, 0 to 1."""
    noise: float = 0.0
    """Standard deviation of what is added to what a search sees."""
    habit: int = 0
    """So many first drafts have all their values in the lower half: first ideas are alike."""


def smooth(point: Point) -> float:
    """One hill: every step towards the optimum pays equally."""
    return 1.0 - _distance(point, OPTIMUM) / (6 * NUM_COORDINATES)


def deceptive(point: Point) -> float:
    """A wide slope leads to a decoy at the origin (fitness 0.7); the optimum is a cone of radius 8 far away, whose rim lies below the slope's upper part."""
    far = _distance(point, OPTIMUM)
    slope = DECOY * (1.0 - _distance(point, (0,) * NUM_COORDINATES) / (7 * NUM_COORDINATES))
    return max(slope, 1.0 - 0.08 * far) if far <= 8 else slope


def plateau(point: Point) -> float:
    """Terraces: fitness moves only when the distance to the optimum falls by five."""
    return 1.0 - math.ceil(_distance(point, OPTIMUM) / 5) / 6


def rugged(point: Point) -> float:
    """An NK landscape (Kauffman and Weinberger 1989) with K = 2: each coordinate's share depends on two neighbours; the optimum is planted."""
    return sum(_share(index, point) for index in range(NUM_COORDINATES)) / NUM_COORDINATES


def needle(point: Point) -> float:
    """Flat everywhere but at the optimum: nothing that was measured helps."""
    return 1.0 if point == OPTIMUM else 0.25


LANDSCAPES = (
    Landscape("smooth", "one hill; following the best is right", smooth),
    Landscape("deceptive", "the first ideas lie on a wide slope that leads away from the optimum", deceptive, habit=6),
    Landscape("plateau", "most steps change nothing that can be seen", plateau),
    Landscape("rugged", "many local optima (NK, K = 2)", rugged),
    Landscape("noisy", "the smooth hill, seen with an error of 0.1", smooth, noise=0.1),
    Landscape("needle", "flat but for one point: no search can do better than chance", needle),
)


def _distance(point: Point, other: Point) -> int:
    return sum(abs(a - b) for a, b in zip(point, other, strict=True))


def _share(index: int, point: Point) -> float:
    """A fixed pseudo-random value from 0 to 0.9 of a coordinate and its two neighbours; 1.0 where all three are the optimum's."""
    values = tuple(point[(index + offset) % NUM_COORDINATES] for offset in range(3))
    if values == OPTIMUM[:3]:
        return 1.0
    digest = hashlib.sha256(f"{index}:{values}".encode()).digest()
    return 0.9 * int.from_bytes(digest[:4], "big") / 2**32


@dataclass(frozen=True)
class Trace:
    """One search on one landscape."""

    landscape: str
    strategy: str
    seed: int
    best: tuple[float, ...]
    """True fitness of the candidate that looks best so far, after every evaluation."""


def draft(rng: random.Random, is_habit: bool = False) -> Point:
    """Return a random point; out of habit one of the lower half."""
    return tuple(rng.randrange(NUM_VALUES // 2 if is_habit else NUM_VALUES) for _ in range(NUM_COORDINATES))


def child(parents: Sequence[Point], rng: random.Random) -> Point:
    """Return a point made from one parent or two."""
    point = list(parents[0])
    if len(parents) == 2:
        point = [rng.choice(pair) for pair in zip(*parents, strict=True)]
    index = rng.randrange(NUM_COORDINATES)
    if rng.random() < JUMP:
        point[index] = rng.randrange(NUM_VALUES)
    else:
        point[index] = min(max(point[index] + rng.choice((-1, 1)), 0), NUM_VALUES - 1)
    return tuple(point)


def cell(point: Point) -> str:
    """Return the features of a point, as a kernel has a composition and a precision: which half the first two coordinates lie in."""
    return "".join("high" if value >= NUM_VALUES // 2 else "low" for value in point[:2])


def climb(landscape: Landscape, strategy: str, seed: int, evaluations: int, options: dict[str, str] | None = None) -> Trace:
    """Search with so many evaluations; equal arguments give equal traces."""
    chosen = create_strategy(strategy, options)
    rng = random.Random(f"{landscape.name}/{seed}")
    graph = MemoryGraph(chosen.needs)
    points: dict[str, Point] = {}
    best_seen, best_true, trace = -math.inf, 0.0, []
    for number in range(evaluations):
        (expansion, *_) = chosen.select(graph, random.Random(f"{seed}/{number}"), 1).expansions
        parents = [points[parent] for parent in expansion.parents]
        point = child(parents, rng) if parents else draft(rng, graph.place().children < landscape.habit)
        true = landscape.fitness(point)
        seen = max(0.0, true + rng.gauss(0.0, landscape.noise)) if landscape.noise else true
        graph.add(
            str(number),
            expansion.parents,
            seen,
            island=int(expansion.algorithm.get("island", 0)),
            generation=int(expansion.algorithm.get("generation", 0)),
            cell=cell(point),
        )
        points[str(number)] = point
        if seen > best_seen:
            best_seen, best_true = seen, true
        trace.append(best_true)
    return Trace(landscape.name, strategy, seed, tuple(trace))


def random_search(landscape: Landscape, seed: int, evaluations: int) -> Trace:
    """Draw points and keep the best: what one-shot must equal."""
    rng = random.Random(f"{landscape.name}/{seed}")
    best_seen, best_true, trace = -math.inf, 0.0, []
    for number in range(evaluations):
        true = landscape.fitness(draft(rng, number < landscape.habit))
        seen = max(0.0, true + rng.gauss(0.0, landscape.noise)) if landscape.noise else true
        if seen > best_seen:
            best_seen, best_true = seen, true
        trace.append(best_true)
    return Trace(landscape.name, "random", seed, tuple(trace))


def bandit_regret(means: Sequence[float], seed: int, pulls: int, options: dict[str, str] | None = None) -> list[float]:
    """Let `mcts` choose between arms, each pull a child of the arm's node with a noisy reward; return the cumulative regret after every pull.

    Every arm is expanded again and again but never below (its children are closed), so the choice between arms is UCB1's alone (Auer, Cesa-Bianchi and
    Fischer, "Finite-time analysis of the multiarmed bandit problem", Machine Learning 47, 2002: regret of O(log n)).
    """
    strategy = create_strategy("mcts", {"greed": "0", "widening": "1000000", **(options or {})})
    rng = random.Random(seed)
    graph = MemoryGraph(strategy.needs)
    arms = {f"arm{index}": mean for index, mean in enumerate(means)}
    for arm, mean in arms.items():
        graph.add(arm, (), _reward(mean, rng))
    graph.exhaust()
    regret, total = [], 0.0
    for number in range(pulls):
        (expansion,) = strategy.select(graph, random.Random(number), 1).expansions
        arm = expansion.parents[0]
        graph.add(f"pull{number}", (arm,), _reward(arms[arm], rng))
        graph.exhaust(f"pull{number}")
        total += max(means) - arms[arm]
        regret.append(total)
    return regret


def _reward(mean: float, rng: random.Random) -> float:
    return 1.0 if rng.random() < mean else 0.0


def study(seeds: int, evaluations: int) -> list[Trace]:
    """Let every strategy, and random search, search every landscape with every seed."""
    traces = []
    for landscape in LANDSCAPES:
        for seed in range(seeds):
            traces += [climb(landscape, name, seed, evaluations) for name in sorted(STRATEGIES)]
            traces.append(random_search(landscape, seed, evaluations))
    return traces


def table(traces: Sequence[Trace]) -> str:
    """Return mean final fitness and, in brackets, how many searches came within reach of the optimum, as Markdown."""
    names = sorted({trace.strategy for trace in traces})
    lines = ["| landscape | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for landscape in LANDSCAPES:
        cells = []
        for name in names:
            final = [trace.best[-1] for trace in traces if (trace.landscape, trace.strategy) == (landscape.name, name)]
            cells.append(f"{statistics.mean(final):.3f} ({sum(value > ESCAPED for value in final)}/{len(final)})")
        lines.append(f"| {landscape.name}: {landscape.claim} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def curves(traces: Sequence[Trace]) -> Figure:
    """Draw the mean best-so-far fitness of every strategy on every landscape, with the range of the middle half of the seeds."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 7), layout="constrained")
    axes = figure.subplots(2, 3)
    for axis, landscape in zip(axes.flat, LANDSCAPES, strict=True):
        for name in sorted({trace.strategy for trace in traces}):
            mine = [trace.best for trace in traces if (trace.landscape, trace.strategy) == (landscape.name, name)]
            steps = range(1, len(mine[0]) + 1)
            middle = [statistics.quantiles(values, n=4) for values in zip(*mine, strict=True)]
            (line,) = axis.plot(steps, [statistics.mean(values) for values in zip(*mine, strict=True)], label=name)
            axis.fill_between(steps, [low for low, _, _ in middle], [high for _, _, high in middle], alpha=0.12, color=line.get_color())
        axis.set(title=landscape.name, xlabel="evaluations", ylabel="true fitness of the best", ylim=(0, 1.02))
    axes.flat[0].legend(fontsize=8)
    return figure


def regret_figure(means: Sequence[float], pulls: int, seeds: int) -> tuple[Figure, list[list[float]]]:
    """Draw the cumulative regret of the rule of `mcts` at UCB1's constant, seed by seed, beside linear growth; return it too."""
    from matplotlib.figure import Figure

    found = [bandit_regret(means, seed, pulls, {"exploration": str(THEORY)}) for seed in range(seeds)]
    figure = Figure(figsize=(6, 4), layout="constrained")
    axis = figure.subplots()
    for regret in found:
        axis.plot(range(1, pulls + 1), regret, color="tab:blue", alpha=0.4)
    mean_gap = max(means) - statistics.mean(means)
    axis.plot([1, pulls], [mean_gap, pulls * mean_gap], "--", color="grey", label="choosing at random (linear)")
    axis.set(
        title=f"cumulative regret, arms {', '.join(map(str, means))}", xlabel="pulls", ylabel="regret", ylim=(0, 3 * max(map(max, found)))
    )
    axis.legend()
    return figure, found


def _steps(best: Sequence[float]) -> list[tuple[int, float]]:
    """Return a curve as its changes: the evaluation, counted from 1, and the value from there on."""
    return [(index + 1, round(value, 4)) for index, value in enumerate(best) if index == 0 or value != best[index - 1]]


def main() -> None:
    """Run the study and write records, table and figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--evaluations", type=int, default=500)
    parser.add_argument("--pulls", type=int, default=2000)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    traces = study(options.seeds, options.evaluations)
    figure, regret = regret_figure((0.8, 0.6, 0.5, 0.4), options.pulls, 5)
    with (options.out / "traces.jsonl").open("w", encoding="utf-8") as file:
        for trace in traces:
            file.write(json.dumps({**dataclasses.asdict(trace), "best": _steps(trace.best), "evaluations": len(trace.best)}) + "\n")
    (options.out / "regret.json").write_text(
        json.dumps([[round(value, 3) for value in row[::20]] for row in regret]) + "\n", encoding="utf-8"
    )
    head = f"# Strategies on synthetic landscapes\n\n{options.seeds} seeds, {options.evaluations} evaluations each; mean true fitness of the best at the end "
    head += f"(1 is the optimum) and how many searches exceeded {ESCAPED}.\n\n"
    (options.out / "report.md").write_text(f"{head}{table(traces)}\n![curves](curves.png)\n\n![regret](regret.png)\n", encoding="utf-8")
    curves(traces).savefig(options.out / "curves.png", dpi=90)
    figure.savefig(options.out / "regret.png")


if __name__ == "__main__":
    main()
