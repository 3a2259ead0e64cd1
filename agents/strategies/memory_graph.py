"""The search graph in memory: what strategies see on synthetic landscapes and in tests, and the state of a run as of an earlier step."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

from agents.strategies.base import IslandView, Needs
from agents.strategies.places import ROOT, Change, Place, Settled, Settling, island_place, parents_key


class MemoryGraph:
    """A `GraphView` over places in a dictionary.

    Args:
        needs: Statistics to keep, as the strategy wants them.
    """

    def __init__(self, needs: Needs | None = None) -> None:
        self._needs = needs or Needs()
        self.places: dict[str, Place] = {}
        self._nodes: list[str] = []
        self._children: dict[str, list[str]] = {}
        self._islands: dict[int, list[str]] = {}

    @property
    def nodes(self) -> list[Place]:
        """All nodes in logical order."""
        return [self.places[place_id] for place_id in self._nodes]

    def add(
        self,
        place_id: str,
        parents: Sequence[str] = (),
        fitness: float = 0.0,
        *,
        island: int = 0,
        generation: int = 0,
        cell: str = "",
        ucb: float | None = None,
    ) -> list[Change]:
        """Take in a session that brought a node; return what it changed."""
        place = Place(place_id, "node", tuple(parents), fitness, len(self._nodes), cell, island, generation)
        return self.settle(
            Settled(tuple(parents), place.position, place, ucb=ucb, has_island=self._needs.islands, is_backed_up=self._needs.visits)
        )

    def exhaust(self, *parents: str, weight: int = 2) -> list[Change]:
        """Take in a session for which the coder had nothing new."""
        return self.settle(Settled(tuple(parents), len(self._nodes) - 1, exhaustion=weight))

    def settle(self, session: Settled) -> list[Change]:
        """Take in any finished session; return what it changed."""
        settling = Settling(self.places.get)
        settling.settle(session)
        self.put(settling.places.values())
        return settling.changes

    def put(self, places: Iterable[Place]) -> None:
        """Insert or replace places as they are; new nodes come in logical order."""
        for place in places:
            is_new = place.place_id not in self.places
            self.places[place.place_id] = place
            if is_new and place.kind == "node":
                self._nodes.append(place.place_id)
                self._children.setdefault(place.parent or ROOT, []).append(place.place_id)
                self._islands.setdefault(place.island, []).append(place.place_id)

    def apply(self, changes: Iterable[Change]) -> None:
        """Repeat logged changes."""
        settling = Settling(self.places.get)
        for change in changes:
            place = settling.get(change.place_id)
            integer = isinstance(getattr(place, change.field), int) and change.value is not None
            value = int(change.value) if integer and change.value is not None else change.value
            settling.places[change.place_id] = dataclasses.replace(place, **{change.field: value})  # type: ignore[arg-type]  # a field of `MUTABLE`
        self.put(settling.places.values())

    # --- GraphView -------------------------------------------------------------------------------------------------------

    def place(self, *parents: str) -> Place:
        """See `GraphView.place`."""
        return Settling(self.places.get).get(parents_key(parents))

    def latest(self) -> Place | None:
        """See `GraphView.latest`."""
        return self.places[self._nodes[-1]] if self._nodes else None

    def best(self, island: int | None = None) -> Place | None:
        """See `GraphView.best`."""
        ids = self._nodes if island is None else self._islands.get(island, [])
        found = [self.places[place_id] for place_id in ids if self.places[place_id].is_open]
        return min(found, key=lambda place: (-place.fitness, place.children, place.position), default=None)

    def children(self, place_id: str) -> Sequence[Place]:
        """See `GraphView.children`."""
        return [self.places[child] for child in self._children.get(place_id, [])]

    def island(self, number: int) -> IslandView:
        """See `GraphView.island`."""
        statistics = self.places.get(island_place(number), Place(island_place(number), "island"))
        cells: dict[str, Place] = {}
        for place_id in self._islands.get(number, []):
            place = self.places[place_id]
            if place.cell not in cells or place.fitness > cells[place.cell].fitness:
                cells[place.cell] = place
        passed = [place for place in cells.values() if place.fitness > 0]
        elites = sorted(passed or cells.values(), key=lambda place: place.position)
        return IslandView(statistics.visits, statistics.visits - statistics.best_at, tuple(elites))
