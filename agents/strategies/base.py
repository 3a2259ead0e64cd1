"""The contract of a search strategy: a pure function from the recorded graph and a random generator to the next expansions.

A strategy does no I/O and keeps no state of its own between calls: what it must remember it puts into `Expansion.algorithm`, which comes back with
the session. So a resumed run decides as the unbroken one did. Budgets, the stall window and other ends that hold for every strategy are the graph's business.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

from agents.types import Memory


@dataclass(frozen=True)
class NodeView:
    """One session of the search, seen by a strategy: its last attempt stands for it."""

    node_id: str
    parents: tuple[str, ...]
    """Sessions it was expanded from, by their node ids; none for a draft."""
    fitness: float
    """0.0 unless passed."""
    round: int = 0
    algorithm: Mapping[str, Any] = field(default_factory=dict)  # Any: JSON, as the strategy gave it
    features: Mapping[str, str] = field(default_factory=dict)
    """Descriptors of the kernel, for example `bottleneck`, `composition`, `roofline`; equal features share a cell."""


@dataclass(frozen=True)
class GraphView:
    """The recorded search graph in logical order."""

    nodes: tuple[NodeView, ...] = ()
    exhausted: Mapping[tuple[str, ...], int] = field(default_factory=dict)
    """How much speaks for the coder having nothing new, by the parents that were to be expanded; `()` stands for drafts. A coder that says so
    counts 2, a session that only repeated earlier candidates 1."""

    @cached_property
    def by_id(self) -> Mapping[str, NodeView]:
        """Nodes by their ids."""
        return {node.node_id: node for node in self.nodes}

    @cached_property
    def children(self) -> Mapping[str, tuple[NodeView, ...]]:
        """Children of each node, in logical order."""
        found: dict[str, list[NodeView]] = {node.node_id: [] for node in self.nodes}
        for node in self.nodes:
            for parent in node.parents:
                found[parent].append(node)
        return {node_id: tuple(nodes) for node_id, nodes in found.items()}

    @cached_property
    def drafts(self) -> tuple[NodeView, ...]:
        """Nodes without parents."""
        return tuple(node for node in self.nodes if not node.parents)

    def is_exhausted(self, *parents: str) -> bool:
        """Return whether the coder has nothing new for exactly these parents (none: for drafts)."""
        return self.exhausted.get(parents, 0) >= 2


def best_of(nodes: Sequence[NodeView]) -> NodeView | None:
    """Return the fittest node, the earliest of equals; None if there are none."""
    return max(nodes, key=lambda node: node.fitness, default=None)


@dataclass(frozen=True)
class Expansion:
    """One session to start."""

    parents: tuple[str, ...] = ()
    """None for a draft, one to improve, two to cross."""
    memory: Memory = Memory.CLEAN
    algorithm: Mapping[str, Any] = field(default_factory=dict)  # Any: JSON that the strategy wants to see again


@dataclass(frozen=True)
class Selection:
    """What to do next: sessions that may run at the same time, or the reason to stop."""

    expansions: tuple[Expansion, ...] = ()
    stop: str = ""
    """Why the strategy has nothing more to do; empty if it goes on."""

    def __post_init__(self) -> None:
        if bool(self.expansions) == bool(self.stop):
            raise ValueError("a selection either expands or stops")


class Strategy(Protocol):
    """Decides where the search goes. Built from its options by `registry.create_strategy`."""

    def select(self, view: GraphView, rng: random.Random, width: int) -> Selection:
        """Return one to `width` expansions of nodes in the view, or a reason to stop. Deterministic in its arguments."""
