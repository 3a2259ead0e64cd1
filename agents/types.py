"""The nouns of the search: attempt, diagnosis, budget, memory mode. Plain values without I/O."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from tools.types import Candidate, Evaluation


class Memory(StrEnum):
    """What a session may remember when it writes a child."""

    CLEAN = "clean"
    """Nothing of the run: an independent draft, or a fresh start on stagnation."""
    PARENT = "parent"
    """The parents and their ancestors."""
    SIBLINGS = "siblings"
    """The other children of the same parents."""
    BOTH = "both"
    """Parents, ancestors and siblings."""


@dataclass(frozen=True)
class Attempt:
    """A candidate that was written, with what became of it."""

    candidate: Candidate
    evaluation: Evaluation
    notes: str = ""
    """The coder's own summary of what was changed and why."""
    node_id: str = ""
    """The node that records it; empty until it is recorded."""


REPEATS = "(this repeats an earlier candidate; propose something else)"
"""Stands at the end of the notes of an attempt whose source is known already."""


@dataclass(frozen=True)
class Diagnosis:
    """What stands in the way of the parent, by its evaluation: one dominant bottleneck and what need not be tried again."""

    bottleneck: str
    """One of: `none_yet`, `lint`, `compile`, `correctness`, `runtime`, `timeout`, `memory_bandwidth`, `latency`, `compute`, `unknown`."""
    summary: str
    """A few sentences for a coder: the dominant problem and the evidence for it."""
    questions: tuple[str, ...] = ()
    """What to ask the knowledge base."""
    failed_ideas: tuple[str, ...] = ()
    """One line per idea that was tried and did not help, with its outcome."""


@dataclass(frozen=True)
class Budget:
    """What a run may spend. None: no limit of that kind; at least one of evaluations and seconds must be set."""

    evaluations: int | None = 50
    """Calls of the evaluator, re-measurements of finalists included."""
    seconds: float | None = None
    """Wall time of the run while a process drives it, in s, added up over resumes."""
    tokens: int | None = None
    """Tokens sent to and received from chat models."""
    dollars: float | None = None
    """Money for chat models, in USD, by the price table."""

    def __post_init__(self) -> None:
        if self.evaluations is None and self.seconds is None:
            raise ValueError("a run needs a limit: give a number of evaluations or seconds")
        for name in ("evaluations", "seconds", "tokens", "dollars"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"budget {name} must be above 0, got {value!r}")


@dataclass(frozen=True)
class BudgetLeft:
    """What is left of a `Budget` when a step starts. None: no limit of that kind."""

    evaluations: int | None = None
    seconds: float | None = None
    tokens: int | None = None
    dollars: float | None = None


@dataclass(frozen=True)
class Limits:
    """Bounds of one session."""

    attempts: int = 3
    """Most candidates that one session writes until one is correct, the first included."""
    polish: int = 0
    """Further candidates of a session after its first correct one, to make it faster."""
    tool_steps: int = 12
    """Most rounds of tool calls within one `write` of an LLM coder."""
    prompt_tokens: int = 24_000
    """Most tokens of a prompt, estimated at four characters each."""
