"""Islands of candidates that evolve apart: MAP-Elites cells within an island, mutation, crossover of two parents, migration between neighbours.

MAP-Elites: Mouret and Clune, "Illuminating search spaces by mapping elites", arXiv 1504.04909: an island keeps the best of every cell of features, so
that a slower kernel of another kind survives to be built on.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from agents.strategies.base import Expansion, GraphView, NodeView, Selection, best_of
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

    def select(self, view: GraphView, rng: random.Random, width: int) -> Selection:
        """See `Strategy.select`."""
        sessions = [0] * self.islands
        for node in view.nodes:
            sessions[self._island(node)] += 1
        expansions: list[Expansion] = []
        for _ in range(width):
            # The island with the fewest sessions is next; sessions started in this call count already.
            order = sorted(range(self.islands), key=lambda island: sessions[island])
            chosen = next((found for island in order if (found := self._expand(view, island, sessions[island], rng)) is not None), None)
            if chosen is None:
                break
            expansions.append(chosen)
            sessions[int(chosen.algorithm["island"])] += 1
        return Selection(tuple(expansions)) if expansions else Selection(stop="the coder has nothing new for any island")

    def _expand(self, view: GraphView, island: int, sessions: int, rng: random.Random) -> Expansion | None:
        members = [node for node in view.nodes if self._island(node) == island]
        may_draft = not view.is_exhausted()
        if may_draft and (sessions < self.population or self._is_stagnant(members)):
            return Expansion(memory=Memory.CLEAN, algorithm=self._mark(island, (), "draft"))
        elites = [node for node in _elites(members) if not view.is_exhausted(node.node_id)]
        if self.migration_interval and sessions % self.migration_interval == self.migration_interval - 1:
            neighbour = (island - 1) % self.islands
            migrant = best_of([node for node in view.nodes if self._island(node) == neighbour and not view.is_exhausted(node.node_id)])
            if migrant is not None and neighbour != island:
                return Expansion((migrant.node_id,), Memory.PARENT, self._mark(island, (migrant,), "migration"))
        if not elites:
            return Expansion(memory=Memory.CLEAN, algorithm=self._mark(island, (), "draft")) if may_draft else None
        first = self._pick(elites, rng)
        others = [node for node in elites if node.node_id != first.node_id and not view.is_exhausted(first.node_id, node.node_id)]
        if others and rng.random() < self.crossover:
            second = self._pick(others, rng)
            return Expansion((first.node_id, second.node_id), Memory.PARENT, self._mark(island, (first, second), "crossover"))
        return Expansion((first.node_id,), Memory.BOTH, self._mark(island, (first,), "mutation"))

    def _pick(self, nodes: Sequence[NodeView], rng: random.Random) -> NodeView:
        return max((rng.choice(nodes) for _ in range(self.tournament)), key=lambda node: node.fitness)

    def _island(self, node: NodeView) -> int:
        """Winners that the plan put in carry no island; they are dealt out by their round."""
        return int(node.algorithm.get("island", node.round)) % self.islands

    def _is_stagnant(self, members: Sequence[NodeView]) -> bool:
        best = best_of(members)
        if best is None:
            return False
        since = len(members) - 1 - next(index for index, node in enumerate(members) if node.node_id == best.node_id)
        return since > 0 and since % self.stagnation == 0

    def _mark(self, island: int, parents: Sequence[NodeView], operator: str) -> dict[str, Any]:  # Any: JSON
        generation = 1 + max((int(node.algorithm.get("generation", 0)) for node in parents), default=-1)
        return {"island": island, "generation": generation, "operator": operator}


def _elites(members: Sequence[NodeView]) -> list[NodeView]:
    """Return the best of every cell, in logical order of the cells' first members. Failed nodes are elites only while nothing passed."""
    passed = [node for node in members if node.fitness > 0]
    cells: dict[tuple[tuple[str, str], ...], NodeView] = {}
    for node in passed or members:
        cell = tuple(sorted(node.features.items()))
        if cell not in cells or node.fitness > cells[cell].fitness:
            cells[cell] = node
    return list(cells.values())
