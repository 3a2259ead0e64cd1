"""The statistics that strategies decide by, and how a finished session changes them. Pure: the run store and the graph in memory both use it.

A *place* is a node that stands for its session (its last attempt), the root (drafts hang on it), an island, or a pair of parents. What changes about a
place is returned as a list of `Change`, so that a store can log it and rebuild the state as of any logical step.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

ROOT = ""
CLOSED_AT = 2
"""From this exhaustion on a place is not expanded any more: the coder said once that it has nothing new (2), or only repeated itself twice (1 each)."""
MUTABLE = ("children", "alive_children", "visits", "total", "best", "best_at", "exhaustion", "ucb")
"""Fields of a place that change after it was made."""


@dataclass(frozen=True)
class Place:
    """A place with its statistics."""

    place_id: str
    kind: str = "node"
    """`node`, `root`, `island` or `pair`."""
    parents: tuple[str, ...] = ()
    """Places it was expanded from; none for a draft."""
    fitness: float = 0.0
    """0.0 unless passed."""
    position: int = 0
    """Logical step of the node: the order of insertion."""
    cell: str = ""
    """Descriptors of the kernel as text; equal cells compete with each other."""
    island: int = 0
    generation: int = 0
    children: int = 0
    """Sessions that expanded it and brought a node."""
    alive_children: int = 0
    """Children of which it is the first parent and that are open or have a descendant that is."""
    visits: int = 0
    """Sessions at or below it, where the strategy backs values up; for an island: its sessions."""
    total: float = 0.0
    """Sum of their fitness."""
    best: float = 0.0
    """Highest fitness among them."""
    best_at: int = 0
    """Visits when `best` was reached."""
    exhaustion: int = 0
    ucb: float | None = None
    """Score with which the strategy last chose it; None: never, or the strategy has no such score."""

    @property
    def is_open(self) -> bool:
        """True while the coder may have something new for it."""
        return self.exhaustion < CLOSED_AT

    @property
    def is_alive(self) -> bool:
        """True if it or a descendant is open."""
        return self.is_open or self.alive_children > 0

    @property
    def parent(self) -> str | None:
        """The place that it hangs on in the tree of first parents; None for what is no node."""
        if self.kind != "node":
            return None
        return self.parents[0] if self.parents else ROOT


@dataclass(frozen=True)
class Change:
    """One field of one place took a new value."""

    step: int
    place_id: str
    field: str
    value: float | None


@dataclass(frozen=True)
class Settled:
    """What a finished session means for the statistics."""

    parents: tuple[str, ...]
    step: int
    """Logical step at which it counts: that of its node, or of the latest node there is (-1: none)."""
    place: Place | None = None
    """The new node that stands for it; None if it brought none."""
    exhaustion: int = 0
    """How much it speaks for the coder having nothing new for these parents."""
    ucb: float | None = None
    """Score with which the strategy chose the parents."""
    has_island: bool = False
    """True if the strategy keeps islands."""
    is_backed_up: bool = False
    """True if the strategy wants visits and values backed up to the root."""


def island_place(island: int) -> str:
    """Return the id of the place that holds an island's statistics."""
    return f"island:{island}"


def parents_key(parents: Sequence[str]) -> str:
    """Return the id of the place that parents make together: the root, the parent itself, or a pair."""
    return ",".join(parents)


def cell_of(features: Mapping[str, str]) -> str:
    """Return features as one text, at most 128 characters."""
    return ";".join(f"{name}={value}" for name, value in sorted(features.items()))[:128]


class Settling:
    """Works out what sessions change, over places that are loaded when they are needed.

    Args:
        load: Returns a place that is known already, or None.
    """

    def __init__(self, load: Callable[[str], Place | None]) -> None:
        self._load = load
        self.places: dict[str, Place] = {}
        """Every place that was looked at, as it is now."""
        self.made: list[str] = []
        """Ids of places that are new."""
        self.changes: list[Change] = []

    def settle(self, session: Settled) -> None:
        """Take in one finished session; sessions come in logical order."""
        step = session.step
        key = parents_key(session.parents)
        if session.exhaustion:
            before = self.get(key)
            self._set(step, key, exhaustion=before.exhaustion + session.exhaustion)
            self._spread(step, before)
        if session.ucb is not None:
            self._set(step, key, ucb=session.ucb)
        place = session.place
        if place is None:
            return
        self.places[place.place_id] = place
        self.made.append(place.place_id)
        first = self.get(place.parent or ROOT)
        self._set(step, first.place_id, children=first.children + 1, alive_children=first.alive_children + 1)
        self._spread(step, first)
        for other in place.parents[1:]:
            self._set(step, other, children=self.get(other).children + 1)
        if session.is_backed_up:
            at: str | None = place.place_id
            while at is not None:
                self._visit(step, at, place.fitness)
                at = self.get(at).parent
        if session.has_island:
            self._visit(step, island_place(place.island), place.fitness)

    def know(self, places: Iterable[Place]) -> None:
        """Take in places that were loaded together; those that are known already stay as they are."""
        for place in places:
            self.places.setdefault(place.place_id, place)

    def get(self, place_id: str) -> Place:
        """Return a place; one that nobody spoke of yet is made."""
        if place_id not in self.places:
            known = self._load(place_id)
            if known is None:
                kind = "root" if place_id == ROOT else "island" if place_id.startswith("island:") else "pair"
                known = Place(place_id=place_id, kind=kind, position=-1)
                self.made.append(place_id)
            self.places[place_id] = known
        return self.places[place_id]

    def _set(self, step: int, place_id: str, **values: float) -> None:
        before = self.get(place_id)
        self.places[place_id] = dataclasses.replace(before, **values)  # type: ignore[arg-type]  # names and types of `MUTABLE`
        self.changes += [Change(step, place_id, name, value) for name, value in values.items() if getattr(before, name) != value]

    def _visit(self, step: int, place_id: str, fitness: float) -> None:
        before = self.get(place_id)
        visits = before.visits + 1
        values: dict[str, float] = {"visits": visits, "total": before.total + fitness}
        if fitness > before.best or not before.visits:
            values |= {"best": fitness, "best_at": visits}
        self._set(step, place_id, **values)

    def _spread(self, step: int, before: Place) -> None:
        """Tell the ancestors when a place came to life or died."""
        now = self.get(before.place_id)
        while now.is_alive != before.is_alive and now.parent is not None:
            before = self.get(now.parent)
            self._set(step, before.place_id, alive_children=before.alive_children + (1 if now.is_alive else -1))
            now = self.get(before.place_id)
