"""Best first: a few independent drafts, then always the fittest node is expanded."""

from __future__ import annotations

import random
from dataclasses import dataclass

from agents.strategies.base import Expansion, GraphView, Selection
from agents.types import Memory


@dataclass(frozen=True)
class Greedy:
    """Draft, pick the best, deepen."""

    drafts: int = 3
    """Independent drafts before the first expansion."""

    def select(self, view: GraphView, rng: random.Random, width: int) -> Selection:
        """See `Strategy.select`."""
        missing = self.drafts - len(view.drafts)
        if missing > 0 and not view.is_exhausted():
            return Selection(tuple(Expansion(memory=Memory.CLEAN) for _ in range(min(missing, width))))
        open_nodes = [node for node in view.nodes if not view.is_exhausted(node.node_id)]
        if not open_nodes:
            if view.is_exhausted():
                return Selection(stop="the coder has nothing new for any node")
            return Selection((Expansion(memory=Memory.CLEAN),))
        # The fittest; of equals (all failed, for example) the one with the fewest children, then the earliest.
        best = max(open_nodes, key=lambda node: (node.fitness, -len(view.children[node.node_id])))
        return Selection(tuple(Expansion(parents=(best.node_id,), memory=Memory.BOTH) for _ in range(width)))
