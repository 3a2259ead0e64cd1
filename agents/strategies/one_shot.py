"""Independent drafts without memory: the control that every search must beat."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agents.strategies.base import Expansion, GraphView, Needs, Selection
from agents.types import Memory


@dataclass(frozen=True)
class OneShot:
    """Write drafts that know nothing of each other, until the budget ends or there are `drafts` of them."""

    drafts: int = 0
    """Stop after so many; 0: as many as the budget allows."""

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
        left = self.drafts - root.children if self.drafts else width
        if left <= 0:
            return Selection(stop=f"all {self.drafts} drafts are written")
        if not root.is_open:
            return Selection(stop="the coder has no further draft")
        return Selection(tuple(Expansion(memory=Memory.CLEAN) for _ in range(min(left, width))))
