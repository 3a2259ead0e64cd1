"""Monte Carlo tree search: UCT with progressive widening, and virtual loss for sessions that run at the same time.

UCT: Kocsis and Szepesvári, "Bandit based Monte-Carlo Planning", ECML 2006. Progressive widening: Coulom, "Computing Elo Ratings of Move Patterns in
the Game of Go", 2007; a node with n visits may have about `widening * n ** alpha` children.
"""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agents.strategies.base import Expansion, GraphView, Needs, Selection
from agents.strategies.places import ROOT, Place
from agents.types import Memory


@dataclass(frozen=True)
class Mcts:
    """Balance what is known to be good against what is little known."""

    exploration: float = 0.5
    """Weight of the confidence term; 0: follow the mean alone."""
    widening: float = 1.5
    """Children allowed after one visit."""
    alpha: float = 0.5
    """Exponent of progressive widening, from 0 (fixed width) to 1 (a child a visit)."""
    greed: float = 0.5
    """Share of the subtree's best value in a node's value; the rest is its mean."""

    @property
    def needs(self) -> Needs:
        """See `Strategy.needs`."""
        return Needs(visits=True)

    def adopt(self, number: int) -> Mapping[str, Any]:  # Any: JSON
        """See `Strategy.adopt`."""
        return {}

    def select(self, view: GraphView, rng: random.Random, width: int) -> Selection:
        """See `Strategy.select`."""
        descent = _Descent(self, view)
        expansions: list[Expansion] = []
        while len(expansions) < width and (found := descent.next()) is not None:
            leaf, score = found
            algorithm = {} if score is None else {"ucb": score}
            memory = Memory.BOTH if leaf else Memory.CLEAN
            expansions.append(Expansion(parents=(leaf,) if leaf else (), memory=memory, algorithm=algorithm))
        return Selection(tuple(expansions)) if expansions else Selection(stop="the coder has nothing new for any node")


class _Descent:
    """Walks from the root to the place to expand; places chosen in this call already count as visits worth nothing (virtual loss).

    UCT wants values between 0 and 1, and fitness has no upper end: values are scaled between the worst and the best of the siblings that are compared.
    """

    def __init__(self, options: Mcts, view: GraphView) -> None:
        self._options, self._view = options, view
        self._root = view.place()
        self._virtual: defaultdict[str, int] = defaultdict(int)
        self._pending: defaultdict[str, int] = defaultdict(int)
        self._children: dict[str, Sequence[Place]] = {}

    def next(self) -> tuple[str, float | None] | None:
        """Return the place to expand and the score of the last step towards it, or None if nothing is open."""
        if not self._root.is_alive:
            return None
        path, place, score = [ROOT], self._root, None
        while True:
            children = self._children_of(place)
            choices = [child for child in children if child.is_alive]
            visits = max(self._visits(place), 1)
            allowed = max(1, math.floor(self._options.widening * visits**self._options.alpha))
            if place.is_open and (len(children) + self._pending[place.place_id] < allowed or not choices):
                break
            score, place = self._choose(visits, choices)
            path.append(place.place_id)
        self._pending[place.place_id] += 1
        for place_id in path:
            self._virtual[place_id] += 1
        return place.place_id, score

    def _children_of(self, place: Place) -> Sequence[Place]:
        """Return the children; read once, as every descent comes by the root."""
        if place.place_id not in self._children:
            self._children[place.place_id] = self._view.children(place.place_id)
        return self._children[place.place_id]

    def _visits(self, place: Place) -> int:
        return place.visits + self._virtual[place.place_id]

    def _choose(self, parent_visits: int, choices: Sequence[Place]) -> tuple[float, Place]:
        """Return the child of the highest score, and the score: its value among its siblings (0: the worst, 1: the best) plus the confidence term."""
        values = [self._value(child) for child in choices]
        low, span = min(values), (max(values) - min(values)) or 1.0
        logarithm = math.log(parent_visits)
        scores = [
            (value - low) / span + self._options.exploration * math.sqrt(logarithm / self._visits(child))
            for value, child in zip(values, choices, strict=True)
        ]
        best = max(range(len(choices)), key=lambda index: scores[index])
        return scores[best], choices[best]

    def _value(self, child: Place) -> float:
        visits = self._visits(child)
        return (1 - self._options.greed) * child.total / visits + self._options.greed * child.best * child.visits / visits
