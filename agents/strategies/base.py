"""The contract of a search strategy: a pure function from the recorded graph and a random generator to the next expansions.

A strategy does no I/O of its own and keeps no state between calls: what it must remember it puts into `Expansion.algorithm`, which comes back with
the session. So a resumed run decides as the unbroken one did. Budgets, the stall window and other ends that hold for every strategy are the graph's business.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from agents.strategies.places import Place
from agents.types import Memory


@dataclass(frozen=True)
class IslandView:
    """A population that evolves apart."""

    num_sessions: int
    since_best: int
    """Sessions of the island since its best one."""
    elites: tuple[Place, ...]
    """The best of every cell, in logical order; failed nodes only while nothing of the island passed."""


class GraphView(Protocol):
    """The recorded search graph as a strategy may ask for it: each question is cheap, however large the graph is.

    `agents.strategies.memory_graph.MemoryGraph` answers from memory, `agents.runs.stored_graph.StoredGraph` from the run store; equal graphs give equal answers.
    """

    def place(self, *parents: str) -> Place:
        """Return the place of one node, of a pair, or (without arguments) the root, whose `children` counts the drafts."""

    def latest(self) -> Place | None:
        """Return the node that was recorded last; None in an empty graph."""

    def best(self, island: int | None = None) -> Place | None:
        """Return the fittest open node, of all or of an island; of equals the one with the fewest children, then the earliest."""

    def children(self, place_id: str) -> Sequence[Place]:
        """Return the nodes whose first parent this is (of the root: drafts), in logical order."""

    def island(self, number: int) -> IslandView:
        """Return what is known of an island."""


@dataclass(frozen=True)
class Expansion:
    """One session to start."""

    parents: tuple[str, ...] = ()
    """None for a draft, one to improve, two to cross."""
    memory: Memory = Memory.CLEAN
    algorithm: Mapping[str, Any] = field(default_factory=dict)  # Any: JSON that the strategy wants to see again
    """`island`, `generation` and `ucb` are kept in the statistics of the place; the rest is told only."""


@dataclass(frozen=True)
class Selection:
    """What to do next: sessions that may run at the same time, or the reason to stop."""

    expansions: tuple[Expansion, ...] = ()
    stop: str = ""
    """Why the strategy has nothing more to do; empty if it goes on."""

    def __post_init__(self) -> None:
        if bool(self.expansions) == bool(self.stop):
            raise ValueError("a selection either expands or stops")


@dataclass(frozen=True)
class Needs:
    """Statistics that a strategy wants kept, as each costs writes per node."""

    visits: bool = False
    """Visits and values backed up from every node to the root."""
    islands: bool = False
    """Sessions and best of every island."""


class Strategy(Protocol):
    """Decides where the search goes. Built from its options by `registry.create_strategy`."""

    @property
    def needs(self) -> Needs:
        """What the graph must keep for it."""

    def adopt(self, number: int) -> Mapping[str, Any]:  # Any: JSON, as `Expansion.algorithm`
        """Return the algorithm data of a session that starts from an earlier winner, the `number`-th of the run."""

    def select(self, view: GraphView, rng: random.Random, width: int) -> Selection:
        """Return one to `width` expansions of nodes in the view, or a reason to stop. Deterministic in its arguments."""
