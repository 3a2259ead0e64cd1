"""A chain: one draft, then always the latest node is worked on. What a person does at a terminal."""

from __future__ import annotations

import random
from dataclasses import dataclass

from agents.strategies.base import Expansion, GraphView, Selection
from agents.types import Memory


@dataclass(frozen=True)
class Linear:
    """Improve the latest node, good or bad. Never more than one session at a time."""

    def select(self, view: GraphView, rng: random.Random, width: int) -> Selection:
        """See `Strategy.select`."""
        if not view.nodes:
            return Selection((Expansion(memory=Memory.CLEAN),)) if not view.is_exhausted() else Selection(stop="the coder has no draft")
        latest = view.nodes[-1]
        if view.is_exhausted(latest.node_id):
            return Selection(stop="the coder has nothing new for the end of the chain")
        return Selection((Expansion(parents=(latest.node_id,), memory=Memory.PARENT),))
