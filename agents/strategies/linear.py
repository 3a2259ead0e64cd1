"""A chain: one draft, then always the latest node is worked on. What a person does at a terminal."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agents.strategies.base import Expansion, GraphView, Needs, Selection
from agents.types import Memory


@dataclass(frozen=True)
class Linear:
    """Improve the latest node, good or bad. Never more than one session at a time."""

    @property
    def needs(self) -> Needs:
        """See `Strategy.needs`."""
        return Needs()

    def adopt(self, number: int) -> Mapping[str, Any]:  # Any: JSON
        """See `Strategy.adopt`."""
        return {}

    def select(self, view: GraphView, rng: random.Random, width: int) -> Selection:
        """See `Strategy.select`."""
        latest = view.latest()
        if latest is None:
            return Selection((Expansion(memory=Memory.CLEAN),)) if view.place().is_open else Selection(stop="the coder has no draft")
        if not latest.is_open:
            return Selection(stop="the coder has nothing new for the end of the chain")
        return Selection((Expansion(parents=(latest.place_id,), memory=Memory.PARENT),))
