"""What a session may remember of the run, by the memory mode of its expansion."""

from __future__ import annotations

from collections.abc import Sequence

from agents.runs.records import NodeRecord
from agents.types import Memory


def remember(history: Sequence[NodeRecord], parents: Sequence[str], memory: Memory) -> list[NodeRecord]:
    """Return the part of the history that the mode lets a session see, in logical order.

    Ancestors are the parents with all that led to them; siblings are the attempts of other sessions that expanded exactly these parents (for a draft: the other drafts).
    """
    chosen: set[str] = set()
    if memory in (Memory.PARENT, Memory.BOTH):
        chosen |= _ancestors(history, parents)
    if memory in (Memory.SIBLINGS, Memory.BOTH):
        sessions = {node.session_id for node in history if node.attempt == 1 and node.parents == tuple(parents)}
        chosen |= {node.node_id for node in history if node.session_id in sessions}
    return [node for node in history if node.node_id in chosen]


def _ancestors(history: Sequence[NodeRecord], parents: Sequence[str]) -> set[str]:
    by_id = {node.node_id: node for node in history}
    found: set[str] = set()
    open_ids = list(parents)
    while open_ids:
        node_id = open_ids.pop()
        if node_id in by_id and node_id not in found:
            found.add(node_id)
            open_ids += by_id[node_id].parents
    return found
