"""What a session may remember of the run, by the memory mode of its expansion."""

from __future__ import annotations

from collections.abc import Sequence

from agents.context import RunContext
from agents.runs.records import NodeRecord
from agents.runs.store import RunStore
from agents.types import Memory

MAX_ANCESTORS = 24
"""Nearest ancestors that a session may remember: more fit into no prompt, and a chain may be very long."""
MAX_SIBLINGS = 24
"""Latest siblings that a session may remember."""


def remember(context: RunContext, parents: Sequence[str], memory: Memory, known: int) -> list[NodeRecord]:
    """Return the part of the history that the mode lets a session see, in logical order.

    Ancestors are the parents with all that led to them, the nearest `MAX_ANCESTORS`; siblings are the attempts of the latest sessions that expanded exactly
    these parents (for a draft: the other drafts).

    Args:
        known: Nodes recorded when the session's round began; later ones are not seen.
    """
    chosen: list[str] = []
    if memory in (Memory.PARENT, Memory.BOTH):
        chosen += context.store.ancestors(context.run_id, parents, MAX_ANCESTORS)
    if memory in (Memory.SIBLINGS, Memory.BOTH):
        chosen += context.store.siblings(context.run_id, parents, MAX_SIBLINGS, until=known)
    return context.nodes_by_id(chosen)


def lineage(store: RunStore, run_id: str, node_id: str) -> list[NodeRecord]:
    """Return a node and everything it descends from, in logical order."""
    return store.nodes_by_id(run_id, store.ancestors(run_id, [node_id]))


def lineage_of(nodes: Sequence[NodeRecord], node_id: str) -> set[str]:
    """Return the ids of a node and of everything it descends from, among nodes that are at hand."""
    by_id = {node.node_id: node for node in nodes}
    found: set[str] = set()
    open_ids = [node_id]
    while open_ids:
        at = open_ids.pop()
        if at in by_id and at not in found:
            found.add(at)
            open_ids += by_id[at].parents
    return found
