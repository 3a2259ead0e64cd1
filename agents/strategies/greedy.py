"""Best first: a few independent drafts, then always the fittest node is expanded."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agents.strategies.base import Expansion, GraphView, Needs, Selection
from agents.types import Memory


@dataclass(frozen=True)
class Greedy:
    """Draft, pick the best, deepen."""

    drafts: int = 3
    """Independent drafts before the first expansion."""

    @property
    def needs(self) -> Needs:
        """See `Strategy.needs`."""
        return Needs()

    def adopt(self, number: int) -> Mapping[str, Any]:  # Any: JSON
        """See `Strategy.adopt`."""
        return {}

    def select(self, view: GraphView, rng: random.Random, width: int) -> Selection:
        """See `Strategy.select`."""
        root = view.place()
        missing = self.drafts - root.children
        if missing > 0 and root.is_open:
            return Selection(tuple(Expansion(memory=Memory.CLEAN) for _ in range(min(missing, width))))
        best = view.best()
        if best is None:
            return (
                Selection((Expansion(memory=Memory.CLEAN),)) if root.is_open else Selection(stop="the coder has nothing new for any node")
            )
        return Selection(tuple(Expansion(parents=(best.place_id,), memory=Memory.BOTH) for _ in range(width)))
