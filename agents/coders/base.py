"""The contract of a coder: given a task, write one candidate.

A coder is deterministic in its task wherever it can be: two calls with equal tasks give equal drafts, and any chance comes
from `task.rng()`. Its state, if it has any, is a cache: a run that is resumed in a new process gets a new coder and must get
the same drafts. A coder never evaluates what it writes and never decides whether it is correct or fast.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from agents.runs.records import Message
from agents.types import Attempt, BudgetLeft, Diagnosis, Limits, Memory
from tools.types import Candidate, Evaluation, Problem

if TYPE_CHECKING:
    from agents.chat_models.calls import Meter
    from kb.deep_search import Brief
    from kb.store import KnowledgeBase
    from kb.types import Winner


class Instruments(Protocol):
    """What a coder may try its file with before it hands it in. A verdict is the evaluator's, here as everywhere."""

    async def compile(self, candidate: Candidate) -> str:
        """Return the compiler's errors, or what each kernel needs; nothing runs."""

    async def test(self, candidate: Candidate) -> Evaluation | None:
        """Return the evaluation of a candidate, counted in the budget and made once; None if none is left for this session."""

    async def profile(self, candidate: Candidate) -> str:
        """Return what a profiler says about a candidate that passed: the dominant cause with its evidence, or why there is none."""


@dataclass(frozen=True)
class CoderTask:
    """Everything a coder may know when it writes one candidate."""

    problem: Problem
    target: str
    """Exact target, for example `cuda:sm_90` or `cpu`; never `auto`."""
    base: KnowledgeBase | None = None
    """The knowledge base; None when the run goes without (`--no-knowledge`)."""
    parents: tuple[Attempt, ...] = ()
    """What to improve on: none for a draft, two for a crossover, else one. On a repeat within a session the previous attempt,
    with its feedback, comes last."""
    history: Sequence[Attempt] = ()
    """All attempts of this run so far in logical order, those of this session included. Use it to avoid repeats and to let a
    tunable search see measured results."""
    remembered: tuple[Attempt, ...] = ()
    """The part of the history that the memory mode lets a prompt show (ancestors, siblings)."""
    memory: Memory = Memory.PARENT
    directive: str = ""
    """What of the plan this session works on; empty: the whole problem."""
    diagnosis: Diagnosis | None = None
    brief: Brief | None = None
    """Cited passages that answer the diagnosis; None without a knowledge base."""
    winners: tuple[Winner, ...] = ()
    """Earlier winners for this problem or its siblings (same signature), best first. Those of the very same problem were already
    evaluated as first drafts."""
    amounts: str = ""
    """What the reference moves and computes, one fact a line; empty: unknown. A coder may fill it in for itself."""
    seed: int = 0
    """Equal seeds and equal tasks give equal drafts; differs for every session and attempt of a run."""
    attempt: int = 1
    """From 1: which attempt of this session this is."""
    sibling: int = 0
    """From 0: position among sessions that start at the same moment with the same history. A coder that enumerates proposals gives
    the `sibling`-th new one, so that siblings differ."""
    budget_left: BudgetLeft = field(default_factory=BudgetLeft)
    limits: Limits = field(default_factory=Limits)
    instruments: Instruments | None = field(default=None, compare=False, repr=False)
    """Compiler and evaluator for use while writing; None: not offered."""
    meter: Meter | None = field(default=None, compare=False, repr=False)
    """Counts requests to chat models as they are made; None: the draft says what it cost."""
    run_id: str = field(default="", compare=False)
    """The run, for records only."""
    session_id: str = field(default="", compare=False)
    """The session, for records only."""

    def rng(self) -> random.Random:
        """Return a fresh generator seeded with `seed`."""
        return random.Random(self.seed)


@dataclass(frozen=True)
class Draft:
    """What a coder hands back: a candidate, or the word that it has nothing new."""

    candidate: Candidate | None
    """None only if `exhausted`."""
    summary: str = ""
    """What was changed and why, in a sentence or two."""
    chunk_ids: tuple[str, ...] = ()
    """Chunks of the knowledge base that the candidate was built from."""
    exhausted: bool = False
    """True when the coder has nothing new to propose for this task."""
    tokens: int = 0
    """Tokens sent and received for this draft that the task's meter has not counted; 0 for coders without a model."""
    dollars: float = 0.0
    """Cost of this draft that the task's meter has not counted, in USD."""
    messages: tuple[Message, ...] = field(default=(), compare=False, repr=False)
    """What was sent to a model and came from it, in order, without keys; empty for coders without a model."""

    def __post_init__(self) -> None:
        if (self.candidate is None) != self.exhausted:
            raise ValueError("a draft holds a candidate unless it is exhausted")


class Coder(Protocol):
    """Writes candidates. Constructed once per process that drives a run; used by several sessions at the same time."""

    async def write(self, task: CoderTask) -> Draft:
        """Return one new candidate for the task, or an exhausted draft.

        Raises:
            AgentsError: The coder cannot work at all (no key, endpoint down for good); the run stops and can be resumed.
        """

    async def signature(self, problem: Problem, target: str) -> str:
        """Return canonical text of what the problem computes, without sizes (anchors, dtypes, ranks); empty if unknown.

        Problems with the same signature are siblings: a winner of one is a start for the other.
        """


def written_sources(history: Sequence[Attempt]) -> frozenset[str]:
    """Return the candidate ids in a history, for coders that avoid repeats."""
    return frozenset(attempt.candidate.candidate_id for attempt in history)
