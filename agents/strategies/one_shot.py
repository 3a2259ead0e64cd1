"""Independent drafts without memory: the control that every search must beat."""

from __future__ import annotations

import random
from dataclasses import dataclass

from agents.strategies.base import Expansion, GraphView, Selection
from agents.types import Memory


@dataclass(frozen=True)
class OneShot:
    """Write drafts that know nothing of each other, until the budget ends or there are `drafts` of them."""

    drafts: int = 0
    """Stop after so many; 0: as many as the budget allows."""

    def select(self, view: GraphView, rng: random.Random, width: int) -> Selection:
        """See `Strategy.select`."""
        left = self.drafts - len(view.drafts) if self.drafts else width
        if left <= 0:
            return Selection(stop=f"all {self.drafts} drafts are written")
        if view.is_exhausted():
            return Selection(stop="the coder has no further draft")
        return Selection(tuple(Expansion(memory=Memory.CLEAN) for _ in range(min(left, width))))
