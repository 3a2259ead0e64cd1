"""The live ledger of a run for chat models: every request is counted durably the moment it ends, and none is sent that could exceed the budget."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from agents.types import BudgetLeft

if TYPE_CHECKING:
    from agents.chat_models.calls import AdviceOutcome, ModelCall


class RunMeter:
    """See `agents.chat_models.calls.Meter`. Used by all sessions of a run.

    Args:
        left: What the run may still spend by its store.
        spend: Stores tokens and dollars under a key, once.
        tell: Announces a finished request.
        hear: Announces how many tokens an answer under way has by now, with its role; kept nowhere.
        advise: Announces what an adviser's answer was worth.
    """

    def __init__(
        self,
        left: Callable[[], BudgetLeft],
        spend: Callable[[str, int, float], None],
        tell: Callable[[ModelCall], None],
        hear: Callable[[str, int], None] = lambda role, tokens: None,
        advise: Callable[[str, AdviceOutcome, str], None] = lambda role, outcome, detail: None,
    ) -> None:
        self._left, self._spend, self._tell, self._hear, self._advise = left, spend, tell, hear, advise
        self._reserved: dict[str, tuple[int, float]] = {}
        self._lock = threading.Lock()

    def left(self) -> BudgetLeft:
        """See `Meter.left`."""
        left = self._left()
        tokens = sum(item[0] for item in self._reserved.values())
        dollars = sum(item[1] for item in self._reserved.values())
        return dataclasses.replace(
            left,
            tokens=None if left.tokens is None else max(0, left.tokens - tokens),
            dollars=None if left.dollars is None else max(0.0, left.dollars - dollars),
        )

    def reserve(self, call_id: str, tokens: int, dollars: float) -> bool:
        """See `Meter.reserve`."""
        with self._lock:
            left = self.left()
            if (left.tokens is not None and tokens > left.tokens) or (left.dollars is not None and dollars > left.dollars):
                return False
            self._reserved[call_id] = (tokens, dollars)
            return True

    def settle(self, call: ModelCall) -> None:
        """See `Meter.settle`."""
        with self._lock:
            self._reserved.pop(call.call_id, None)
            self._spend(call.call_id, call.tokens, call.dollars or 0.0)
        self._tell(call)

    def heard(self, role: str, tokens: int) -> None:
        """See `Meter.heard`."""
        self._hear(role, tokens)

    def advised(self, role: str, outcome: AdviceOutcome, detail: str = "") -> None:
        """See `Meter.advised`."""
        self._advise(role, outcome, detail)
