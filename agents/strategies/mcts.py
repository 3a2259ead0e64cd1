"""Monte Carlo tree search: UCT with progressive widening, and virtual loss for sessions that run at the same time.

UCT: Kocsis and Szepesvári, "Bandit based Monte-Carlo Planning", ECML 2006. Progressive widening: Coulom, "Computing Elo Ratings of Move Patterns in
the Game of Go", 2007; a node with n visits may have about `widening * n ** alpha` children.
"""

from __future__ import annotations

import math
import random
from collections import defaultdict
from dataclasses import dataclass

from agents.strategies.base import Expansion, GraphView, Selection
from agents.types import Memory

_ROOT = ""


@dataclass(frozen=True)
class Mcts:
    """Balance what is known to be good against what is little known."""

    exploration: float = 0.7
    """Weight of the confidence term; 0: follow the mean alone."""
    widening: float = 1.5
    """Children allowed after one visit."""
    alpha: float = 0.5
    """Exponent of progressive widening, from 0 (fixed width) to 1 (a child a visit)."""
    greed: float = 0.5
    """Share of the subtree's best value in a node's value; the rest is its mean."""

    def select(self, view: GraphView, rng: random.Random, width: int) -> Selection:
        """See `Strategy.select`."""
        statistics = _Statistics(view)
        expansions: list[Expansion] = []
        for _ in range(width):
            path = self._descend(view, statistics)
            if path is None:
                break
            statistics.add_virtual_loss(path)
            leaf = path[-1]
            expansions.append(Expansion(parents=(leaf,), memory=Memory.BOTH) if leaf else Expansion(memory=Memory.CLEAN))
        return Selection(tuple(expansions)) if expansions else Selection(stop="the coder has nothing new for any node")

    def _descend(self, view: GraphView, statistics: _Statistics) -> list[str] | None:
        """Return the path from the root to the node to expand, or None if every node is exhausted."""
        alive = _alive(view)
        if _ROOT not in alive:
            return None
        path = [_ROOT]
        while True:
            place = path[-1]
            children = statistics.children[place]
            is_open = not (view.is_exhausted(place) if place else view.is_exhausted())
            allowed = max(1, math.floor(self.widening * max(statistics.visits[place], 1) ** self.alpha))
            pending = statistics.pending[place]
            choices = [child for child in children if child in alive]
            if is_open and (len(children) + pending < allowed or not choices):
                return path
            path.append(max(choices, key=lambda child: self._score(statistics, place, child)))

    def _score(self, statistics: _Statistics, parent: str, child: str) -> float:
        visits = statistics.visits[child]
        mean = statistics.total[child] / visits
        value = (1 - self.greed) * mean + self.greed * statistics.best[child] * (visits - statistics.virtual[child]) / visits
        return value + self.exploration * math.sqrt(math.log(max(statistics.visits[parent], 1)) / visits)


class _Statistics:
    """Visits and values, backed up from every node to the root. Values are fitness over the best fitness so far, from 0 to 1."""

    def __init__(self, view: GraphView) -> None:
        self.children: defaultdict[str, list[str]] = defaultdict(list)
        self.visits: defaultdict[str, int] = defaultdict(int)
        self.total: defaultdict[str, float] = defaultdict(float)
        self.best: defaultdict[str, float] = defaultdict(float)
        self.virtual: defaultdict[str, int] = defaultdict(int)
        self.pending: defaultdict[str, int] = defaultdict(int)
        top = max((node.fitness for node in view.nodes), default=0.0) or 1.0
        for node in view.nodes:
            self.children[node.parents[0] if node.parents else _ROOT].append(node.node_id)
            value = node.fitness / top
            for place in _path_to_root(view, node.node_id):
                self.visits[place] += 1
                self.total[place] += value
                self.best[place] = max(self.best[place], value)

    def add_virtual_loss(self, path: list[str]) -> None:
        """Count a session that has only been started as a visit worth nothing, so that its siblings look elsewhere."""
        self.pending[path[-1]] += 1
        for place in path:
            self.visits[place] += 1
            self.virtual[place] += 1


def _path_to_root(view: GraphView, node_id: str) -> list[str]:
    path = [node_id]
    while parents := view.by_id[path[-1]].parents:
        path.append(parents[0])
    return [*path, _ROOT]


def _alive(view: GraphView) -> set[str]:
    """Return the nodes that can be expanded or have a descendant that can."""
    alive: set[str] = set() if view.is_exhausted() else {_ROOT}
    for node in reversed(view.nodes):
        if node.node_id in alive or not view.is_exhausted(node.node_id):
            alive.add(node.node_id)
            alive.add(node.parents[0] if node.parents else _ROOT)
    return alive
