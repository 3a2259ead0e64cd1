"""Islands of candidates that evolve apart: MAP-Elites cells within an island, mutation, crossover of two parents, migration between neighbours.

MAP-Elites: Mouret and Clune, "Illuminating search spaces by mapping elites", arXiv 1504.04909: an island keeps the best of every cell of features, so
that a slower kernel of another kind survives to be built on.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agents.strategies.base import Expansion, GraphView, Needs, Selection
from agents.strategies.places import Place
from agents.types import Memory


@dataclass(frozen=True)
class Evolutionary:
    """Evolve several islands in turn; the graph is a DAG, as a crossover has two parents."""

    islands: int = 3
    """Populations that evolve apart."""
    population: int = 2
    """Drafts an island starts from."""
    crossover: float = 0.3
    """Share of expansions with two parents, where an island has two cells."""
    migration_interval: int = 4
    """Every so many sessions of an island, one starts from the best of its neighbour; 0: never."""
    tournament: int = 2
    """Elites drawn for a place as parent; the fittest of them wins."""
    stagnation: int = 8
    """Sessions of an island without a new best, after which it writes a fresh draft."""

    @property
    def needs(self) -> Needs:
        """See `Strategy.needs`."""
        return Needs(islands=True)

    def adopt(self, number: int) -> Mapping[str, Any]:  # Any: JSON
        """See `Strategy.adopt`. Winners are dealt out to the islands in turn."""
        return {"island": number % self.islands, "generation": 0, "operator": "winner"}

    def select(self, view: GraphView, rng: random.Random, width: int) -> Selection:
        """See `Strategy.select`."""
        known = [view.island(island) for island in range(self.islands)]
        sessions = [item.num_sessions for item in known]
        expansions: list[Expansion] = []
        for _ in range(width):
            # The island with the fewest sessions is next; sessions started in this call count already.
            order = sorted(range(self.islands), key=lambda island: sessions[island])
            found = (self._expand(view, island, sessions[island], known[island].since_best, known[island].elites, rng) for island in order)
            chosen = next((item for item in found if item is not None), None)
            if chosen is None:
                break
            expansions.append(chosen)
            sessions[int(chosen.algorithm["island"])] += 1
        return Selection(tuple(expansions)) if expansions else Selection(stop="the coder has nothing new for any island")

    def _expand(
        self, view: GraphView, island: int, sessions: int, since_best: int, members: Sequence[Place], rng: random.Random
    ) -> Expansion | None:
        may_draft = view.place().is_open
        is_stagnant = since_best > 0 and since_best % self.stagnation == 0
        if may_draft and (sessions < self.population or is_stagnant):
            return Expansion(memory=Memory.CLEAN, algorithm=_mark(island, (), "draft"))
        if self.migration_interval and sessions % self.migration_interval == self.migration_interval - 1:
            neighbour = (island - 1) % self.islands
            migrant = view.best(neighbour) if neighbour != island else None
            if migrant is not None:
                return Expansion((migrant.place_id,), Memory.PARENT, _mark(island, (migrant,), "migration"))
        elites = [place for place in members if place.is_open]
        if not elites:
            return Expansion(memory=Memory.CLEAN, algorithm=_mark(island, (), "draft")) if may_draft else None
        first = self._pick(elites, rng)
        others = [place for place in elites if place.place_id != first.place_id]
        if others and rng.random() < self.crossover:
            second = self._pick(others, rng)
            if view.place(first.place_id, second.place_id).is_open:
                return Expansion((first.place_id, second.place_id), Memory.PARENT, _mark(island, (first, second), "crossover"))
        return Expansion((first.place_id,), Memory.BOTH, _mark(island, (first,), "mutation"))

    def _pick(self, places: Sequence[Place], rng: random.Random) -> Place:
        return max((rng.choice(places) for _ in range(self.tournament)), key=lambda place: place.fitness)


def _mark(island: int, parents: Sequence[Place], operator: str) -> dict[str, Any]:  # Any: JSON
    generation = 1 + max((place.generation for place in parents), default=-1)
    return {"island": island, "generation": generation, "operator": operator}
