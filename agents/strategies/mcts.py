"""Monte Carlo tree search: UCT with progressive widening, and virtual loss for sessions that run at the same time.

UCT: Kocsis and Szepesvári, "Bandit based Monte-Carlo Planning", ECML 2006. Progressive widening: Coulom, "Computing Elo Ratings of Move Patterns in
the Game of Go", 2007; a node with n visits may have about `widening * n ** alpha` children.
"""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agents.strategies.base import Expansion, GraphView, Needs, Selection
from agents.strategies.places import ROOT, Place
from agents.types import Memory


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

    Values are fitness over the best fitness of the run so far, from 0 to 1.
    """

    def __init__(self, options: Mcts, view: GraphView) -> None:
        self._options, self._view = options, view
        self._root = view.place()
        self._top = self._root.best or 1.0
        self._virtual: defaultdict[str, int] = defaultdict(int)
        self._pending: defaultdict[str, int] = defaultdict(int)

    def next(self) -> tuple[str, float | None] | None:
        """Return the place to expand and the score of the last step towards it, or None if nothing is open."""
        if not self._root.is_alive:
            return None
        path, place, score = [ROOT], self._root, None
        while True:
            children = self._view.children(place.place_id)
            choices = [child for child in children if child.is_alive]
            visits = max(self._visits(place), 1)
            allowed = max(1, math.floor(self._options.widening * visits**self._options.alpha))
            if place.is_open and (len(children) + self._pending[place.place_id] < allowed or not choices):
                break
            score, place = max(((self._score(visits, child), child) for child in choices), key=lambda pair: pair[0])
            path.append(place.place_id)
        self._pending[place.place_id] += 1
        for place_id in path:
            self._virtual[place_id] += 1
        return place.place_id, score

    def _visits(self, place: Place) -> int:
        return place.visits + self._virtual[place.place_id]

    def _score(self, parent_visits: int, child: Place) -> float:
        visits = self._visits(child)
        mean = child.total / self._top / visits
        best = child.best / self._top * child.visits / visits
        value = (1 - self._options.greed) * mean + self._options.greed * best
        return value + self._options.exploration * math.sqrt(math.log(parent_visits) / visits)
