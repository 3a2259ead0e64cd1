"""What became of each request to a chat model: one typed record for the ledger, whatever happened."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from agents.errors import ModelError
from agents.types import BudgetLeft


class CallOutcome(StrEnum):
    """How a request ended. Closed set."""

    ANSWERED = "answered"
    EMPTY = "empty"
    """The answer held neither text nor a tool call."""
    CUT_OFF = "cut_off"
    """The answer ran into its limit of tokens, bytes or time and is incomplete."""
    BROKEN_TOOL_CALL = "broken_tool_call"
    """A tool was called with arguments that are no JSON object."""
    CONTEXT_OVERFLOW = "context_overflow"
    """The request is longer than the model takes."""
    RATE_LIMITED = "rate_limited"
    TIMED_OUT = "timed_out"
    UNREACHABLE = "unreachable"
    """No connection, or the server is broken."""
    REFUSED_KEY = "refused_key"
    """The key is missing, wrong, or not allowed to use the model."""
    NO_TOOLS = "no_tools"
    """The model or server takes no tools."""
    UNANSWERED = "unanswered"
    """Nobody answered in the spool, or the recording has no such request."""
    FAILED = "failed"
    """Anything else; the detail says what."""
    OVER_BUDGET = "over_budget"
    """Not sent: it could have exceeded the budget."""


class AdviceOutcome(StrEnum):
    """What an answer of a role beside the coder's was worth. Closed set; only `used` changes anything."""

    USED = "used"
    NOTHING = "nothing"
    """It says in the right form that there is nothing to say."""
    EMPTY = "empty"
    NO_JSON = "no_json"
    """Text without a JSON object."""
    WRONG_FORM = "wrong_form"
    """A JSON object without what was asked for."""
    TOO_LONG = "too_long"
    TOOL_CALL = "tool_call"
    """It called a tool although none was offered."""
    NO_ANSWER = "no_answer"
    """The request failed; the ledger says how."""


MAY_PASS = frozenset({CallOutcome.RATE_LIMITED, CallOutcome.TIMED_OUT, CallOutcome.UNREACHABLE})
"""Outcomes after which another try may succeed."""


@dataclass(frozen=True)
class ModelCall:
    """One request to a chat model, as the ledger keeps it."""

    call_id: str
    """Unique: makes counting it twice impossible."""
    role: str
    """`coder`, `planner`, `diagnosis`, `deep_search` or `reflection`."""
    model: str
    outcome: CallOutcome
    input_tokens: int = 0
    output_tokens: int = 0
    dollars: float | None = None
    """By the price table; None if the model has no price there."""
    seconds: float = 0.0
    is_estimated: bool = False
    """True: the server did not count the tokens; they are estimated from the text."""
    detail: str = ""
    """What was wrong, scrubbed of keys; empty if answered."""

    @property
    def tokens(self) -> int:
        """Tokens sent and received."""
        return self.input_tokens + self.output_tokens

    def to_json(self) -> dict[str, Any]:  # Any: JSON
        """Return a JSON-ready mapping."""
        return {**dataclasses.asdict(self), "outcome": self.outcome.value}


class ModelCallError(ModelError):
    """A request to a chat model failed for good; `outcome` says how."""

    def __init__(self, message: str, outcome: CallOutcome = CallOutcome.FAILED) -> None:
        super().__init__(message, outcome)
        self.outcome = outcome
        self.retry_after_s: float | None = None
        """What the server asked to wait before another try, in s."""

    def __str__(self) -> str:
        return str(self.args[0])


class Meter(Protocol):
    """Counts what is spent while a session goes on, durably and at once."""

    def left(self) -> BudgetLeft:
        """Return what may still be spent now, requests under way included."""

    def reserve(self, call_id: str, tokens: int, dollars: float) -> bool:
        """Set aside the most that a request can cost; False if the budget does not allow it."""

    def settle(self, call: ModelCall) -> None:
        """Give the reservation back and count what the request did cost."""

    def heard(self, role: str, tokens: int) -> None:
        """Take note that an answer which is still being written has about so many tokens by now; nothing is counted."""

    def advised(self, role: str, outcome: AdviceOutcome, detail: str = "") -> None:
        """Take note of what an adviser's answer was worth, and of what was wrong with it."""


class OpenMeter:
    """Counts in memory, against a fixed allowance: for use without a run."""

    def __init__(self, allowance: BudgetLeft | None = None) -> None:
        self._allowance = allowance or BudgetLeft()
        self.calls: list[ModelCall] = []
        self.advice: list[tuple[str, AdviceOutcome, str]] = []

    def left(self) -> BudgetLeft:
        """See `Meter.left`."""
        tokens, dollars = self._allowance.tokens, self._allowance.dollars
        return dataclasses.replace(
            self._allowance,
            tokens=None if tokens is None else max(0, tokens - sum(call.tokens for call in self.calls)),
            dollars=None if dollars is None else max(0.0, dollars - sum(call.dollars or 0.0 for call in self.calls)),
        )

    def reserve(self, call_id: str, tokens: int, dollars: float) -> bool:
        """See `Meter.reserve`."""
        left = self.left()
        return (left.tokens is None or tokens <= left.tokens) and (left.dollars is None or dollars <= left.dollars)

    def settle(self, call: ModelCall) -> None:
        """See `Meter.settle`."""
        self.calls.append(call)

    def heard(self, role: str, tokens: int) -> None:
        """See `Meter.heard`."""

    def advised(self, role: str, outcome: AdviceOutcome, detail: str = "") -> None:
        """See `Meter.advised`."""
        self.advice.append((role, outcome, detail))
