"""What the steps of the graph work with while a process drives a run: store, evaluator, coder, knowledge, budget. Built anew on resume; holds no truth of its own."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, overload
from weakref import WeakValueDictionary

from agents.chat_models.keys import scrub
from agents.coders.base import Coder, Draft
from agents.config import RunConfig
from agents.errors import BudgetExhausted
from agents.metering import RunMeter
from agents.runs.hashing import derived_seed
from agents.runs.records import AttemptRecord, Event, NodeRecord
from agents.runs.store import RunStore
from agents.strategies.base import Strategy
from agents.threads import in_thread
from agents.types import Attempt, BudgetLeft
from tools.targets.registry import is_simulated
from tools.types import FULL, QUICK, Candidate, Effort, Evaluation, Evidence, Feedback, Problem, Status

if TYPE_CHECKING:
    from agents.advisers import Advisers
    from agents.profiles import Profiler
    from kb.deep_search import Brief
    from kb.store import KnowledgeBase
    from kb.types import Winner

logger = logging.getLogger(__name__)

FINAL_SHARE = 0.25
"""Share of a limit on seconds that is kept back for measuring finalists again."""
LEAST_SECONDS = 0.2
"""With less time than this left, nothing new is started."""
KEPT_NODES = 512
"""Nodes that are kept in memory, with their sources and samples."""
KEPT_SESSIONS = 32
"""Sessions whose attempts are kept in memory: more than go on at the same time, mostly."""
_PAGE = 128


class Evaluator(Protocol):
    """Measures one candidate; `tools.evaluator.LocalEvaluator` is one. Called from threads, never more at a time than there are slots."""

    def evaluate(self, candidate: Candidate, problem: Problem, *, target: str, effort: Effort, seed: int) -> Evaluation:
        """Return what became of the candidate. Never raises for what a candidate does."""


Lint = Callable[[Candidate], Sequence[str]]
"""Findings that forbid an evaluation, one line each: `RULE line N: message; fix`."""
Report = Callable[[Event], None]


@dataclass(frozen=True)
class StartingPoint:
    """An earlier winner, as the plan keeps it for the whole run."""

    winner: Winner
    chunk_ids: tuple[str, ...] = ()
    """Its chunks in the knowledge base."""


class History(Sequence[Attempt]):
    """The attempts of a run so far in logical order, read in pages: a run of any length takes the same memory.

    Args:
        context: The run.
        known: Nodes it holds.
        own: Attempts that follow them, of a session that still goes on.
    """

    def __init__(self, context: RunContext, known: int, own: tuple[Attempt, ...] = ()) -> None:
        self._context, self._known, self._own = context, known, own

    def __len__(self) -> int:
        return self._known + len(self._own)

    @overload
    def __getitem__(self, index: int) -> Attempt: ...

    @overload
    def __getitem__(self, index: slice) -> list[Attempt]: ...

    def __getitem__(self, index: int | slice) -> Attempt | list[Attempt]:
        if isinstance(index, slice):
            return [self[step] for step in range(*index.indices(len(self)))]
        step = range(len(self))[index]
        return self._own[step - self._known] if step >= self._known else self._context.nodes(step, step + 1)[0].to_attempt()

    def __iter__(self) -> Iterator[Attempt]:
        for start in range(0, self._known, _PAGE):
            for node in self._context.nodes(start, min(start + _PAGE, self._known)):
                yield node.to_attempt()
        yield from self._own


@dataclass
class RunContext:
    """The tools of one driven run."""

    store: RunStore
    run_id: str
    problem: Problem
    target: str
    config: RunConfig
    strategy: Strategy
    coder: Coder
    evaluator: Evaluator
    lint: Lint
    base: KnowledgeBase | None = None
    """None when the run goes without knowledge."""
    report: Report = lambda _: None
    advisers: Advisers | None = None
    """Models of other roles than the coder's; None: rules alone."""
    profiler: Profiler | None = None
    """Looks at candidates that a session builds on; None: the diagnosis goes by evaluations alone."""
    clock: Callable[[], float] = time.monotonic
    seconds_before: float = 0.0
    """Wall time the run had used when this process took it over, in s."""
    winners: dict[str, StartingPoint] = field(default_factory=dict)
    """Winners that the plan chose, by their ids; filled again on resume."""
    briefs: dict[tuple[str, ...], Brief | None] = field(default_factory=dict)
    """Answers of the deep search in this process, by the questions."""
    situations: dict[tuple[str, int], Any] = field(default_factory=dict)  # Any: what `agents.session` works out and reads
    """What the attempts under way know, by session and attempt."""
    _nodes: OrderedDict[int, NodeRecord] = field(default_factory=OrderedDict)
    _steps: dict[str, int] = field(default_factory=dict)
    _attempts: dict[str, list[AttemptRecord]] = field(default_factory=dict)
    _in_flight: int = 0

    def __post_init__(self) -> None:
        self._started = self.clock()
        self._locks: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()
        self._slots = asyncio.Semaphore(self.config.evaluator_slots)
        self.meter = RunMeter(
            self.left,
            lambda call_id, tokens, dollars: self.store.spend(self.run_id, call_id, tokens=tokens, dollars=dollars),
            lambda call: self.tell("model_call", **call.to_json()),
            lambda role, tokens: self.report(Event("answering", {"role": role, "tokens": tokens})),
            lambda role, outcome, detail: self.tell("advice", role=role, outcome=outcome.value, detail=scrub(detail)[:200]),
        )
        """Counts what chat models cost, request by request."""

    def tell(self, kind: str, **data: Any) -> None:  # Any: JSON
        """Store an event and show it."""
        item = Event(kind=kind, data=data)
        self.store.add_event(self.run_id, item)
        self._show(item)

    def attempts(self, session_id: str) -> list[AttemptRecord]:
        """Return the drafts of a session in order. As only this process writes them, they are read again only after a change."""
        if session_id not in self._attempts:
            while len(self._attempts) >= KEPT_SESSIONS:
                self._attempts.pop(next(iter(self._attempts)))
            self._attempts[session_id] = self.store.attempts(self.run_id, session_id)
        return self._attempts[session_id]

    def add_attempt(self, session_id: str, record: AttemptRecord, draft: Draft) -> None:
        """Store a draft that the coder wrote, and tell of it."""
        told = [
            Event("written", {"session": session_id, "attempt": record.attempt, "notes": record.notes, "duplicate_of": record.duplicate_of})
        ]
        if record.candidate is None:
            told = []
        more: Any = {"tokens": draft.tokens, "dollars": draft.dollars, "messages": draft.messages}  # Any: arguments of several types
        self.store.add_attempt(self.run_id, session_id, record, **more, events=told)
        self._changed(session_id, told)

    def set_attempt_evaluation(self, session_id: str, attempt: int, evaluation: Evaluation) -> None:
        """Fill in what became of a draft, and tell of it."""
        data = {
            "session": session_id,
            "attempt": attempt,
            "candidate_id": evaluation.candidate_id,
            "status": evaluation.status.value,
            "reason": evaluation.reason,
            "fitness": evaluation.fitness,
            "evidence": evaluation.evidence.value,
        }
        told = [Event("evaluated", data)]
        self.store.set_attempt_evaluation(self.run_id, session_id, attempt, evaluation, told)
        self._changed(session_id, told)

    def _changed(self, session_id: str, told: Sequence[Event]) -> None:
        self._attempts.pop(session_id, None)
        for item in told:
            self._show(item)

    def _show(self, item: Event) -> None:
        """Report an event; one about an evaluation with how many the run has made so far, which whoever watches cannot count: some were made before, some are a coder's tests."""
        if item.kind in ("evaluated", "remeasured"):
            item = Event(item.kind, {**item.data, "evaluations": self.store.spent(self.run_id).evaluations})
        self.report(item)

    def history(self, until: int) -> History:
        """Return the nodes before logical step `until` as a sequence that reads them when they are looked at."""
        return History(self, until)

    def nodes(self, since: int, until: int) -> list[NodeRecord]:
        """Return the nodes of a range of logical steps; the latest read are kept in memory, however long the run is."""
        missing = [step for step in range(since, until) if step not in self._nodes]
        if missing:
            self._keep(self.store.nodes(self.run_id, since=missing[0], until=missing[-1] + 1))
        found = [self._nodes[step] for step in range(since, until)]
        self._forget()
        return found

    def nodes_by_id(self, node_ids: Sequence[str]) -> list[NodeRecord]:
        """Return these nodes in logical order; those that are kept in memory are not read again."""
        missing = [node_id for node_id in node_ids if node_id not in self._steps]
        if missing:
            self._keep(self.store.nodes_by_id(self.run_id, missing))
        steps = sorted({self._steps[node_id] for node_id in node_ids if node_id in self._steps})
        found = [self._nodes[step] for step in steps]
        self._forget()
        return found

    def _keep(self, nodes: Sequence[NodeRecord]) -> None:
        for node in nodes:
            self._nodes[node.step] = node
            self._steps[node.node_id] = node.step

    def _forget(self) -> None:
        while len(self._nodes) > KEPT_NODES:
            _, node = self._nodes.popitem(last=False)
            del self._steps[node.node_id]

    # --- budget ----------------------------------------------------------------------------------------------------------

    def seconds(self) -> float:
        """Wall time of the run so far, in s, over all processes that drove it."""
        return self.seconds_before + self.clock() - self._started

    def seconds_left(self, purpose: str = "search") -> float | None:
        """Seconds that may still be spent on `search` or `final`; None without a limit."""
        limit = self.config.budget.seconds
        if limit is None:
            return None
        share = FINAL_SHARE if purpose == "search" and self.config.num_finalists else 0.0
        return max(0.0, limit * (1 - share) - self.seconds())

    def left(self) -> BudgetLeft:
        """What the search may still spend; evaluations for finalists are kept back."""
        spent = self.store.spent(self.run_id)
        budget = self.config.budget
        return BudgetLeft(
            evaluations=None if budget.evaluations is None else max(0, budget.evaluations - self.config.num_finalists - spent.evaluations),
            seconds=self.seconds_left(),
            tokens=None if budget.tokens is None else max(0, budget.tokens - spent.tokens),
            dollars=None if budget.dollars is None else max(0.0, budget.dollars - spent.dollars),
        )

    def ended_budget(self, left: BudgetLeft) -> str:
        """Return which part of the budget has ended, as a sentence; empty while the search may go on."""
        budget = self.config.budget
        if left.evaluations == 0:
            return f"the budget of {budget.evaluations} evaluations is spent"
        if left.seconds is not None and left.seconds < LEAST_SECONDS:
            return f"the budget of {budget.seconds:g} seconds is spent"
        if left.tokens == 0:
            return f"the budget of {budget.tokens} tokens is spent"
        if left.dollars is not None and left.dollars <= 0:
            return f"the budget of {budget.dollars:g} dollars is spent"
        return ""

    # --- evaluation ------------------------------------------------------------------------------------------------------

    async def evaluate(self, candidate: Candidate, source_hash: str, purpose: str) -> Evaluation | None:
        """Return the evaluation of a candidate for `search` or `final`: from the store if it was made already, else made and stored durably first.

        Returns None when the time that is left does not allow it; nothing is counted then.

        Raises:
            BudgetExhausted: Another evaluation would exceed the budget.
        """
        async with self._locks.setdefault((source_hash, purpose), asyncio.Lock()):
            known = self.store.evaluation(self.run_id, source_hash, purpose)
            if known is not None:
                return dataclasses.replace(known, candidate_id=candidate.candidate_id)
            if purpose == "search" and self.store.hangs(self.target, source_hash):
                return self._not_run(candidate, Status.TIMEOUT, "skipped: this source is known to run into the time limit on this target")
            async with self._slots:
                return await self._measure(candidate, source_hash, purpose)

    def lock(self, name: str) -> asyncio.Lock:
        """Return the lock of a name: one holder at a time in this run."""
        return self._locks.setdefault((name, ""), asyncio.Lock())

    @contextlib.asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Hold one of the evaluator's slots: nothing else is measured there meanwhile."""
        async with self._slots:
            yield

    async def _measure(self, candidate: Candidate, source_hash: str, purpose: str) -> Evaluation | None:
        effort = FULL if purpose == "final" or not self.config.num_finalists else QUICK
        left = self.seconds_left(purpose)
        if left is not None and left < LEAST_SECONDS:
            return None
        # Compiling and running each have a limit of `timeout_s`.
        timeout_s = effort.timeout_s if left is None else min(effort.timeout_s, left / 2)
        spent = self.store.spent(self.run_id).evaluations + self._in_flight
        limit = self.config.budget.evaluations
        if limit is not None and spent >= limit:
            raise BudgetExhausted(f"the budget of {limit} evaluations is spent")
        self._in_flight += 1
        started = self.clock()
        try:
            evaluation = await in_thread(
                lambda: self.evaluator.evaluate(
                    candidate,
                    self.problem,
                    target=self.target,
                    effort=dataclasses.replace(effort, timeout_s=timeout_s),
                    seed=derived_seed(self.config.seed, purpose),
                )
            )
        finally:
            self._in_flight -= 1
        if evaluation.status is Status.TIMEOUT and timeout_s < effort.timeout_s:
            evaluation = self._not_run(candidate, Status.NOT_MEASURED, f"the run's time ended {timeout_s:.1f} s into this evaluation")
        if not evaluation.seconds:
            evaluation = dataclasses.replace(evaluation, seconds=self.clock() - started)
        self.store.add_evaluation(self.run_id, source_hash, purpose, evaluation)
        return evaluation

    def refused(self, candidate: Candidate, findings: tuple[str, ...]) -> Evaluation:
        """Return the evaluation of a candidate that lint forbids; it costs nothing."""
        return Evaluation(
            candidate_id=candidate.candidate_id,
            problem_id=self.problem.problem_id,
            target=self.target,
            evidence=Evidence.SIMULATED if is_simulated(self.target) else Evidence.COMPILED,
            status=Status.LINT_ERROR,
            reason=findings[0],
            feedback=Feedback(lint=findings),
        )

    def _not_run(self, candidate: Candidate, status: Status, reason: str) -> Evaluation:
        return Evaluation(
            candidate_id=candidate.candidate_id,
            problem_id=self.problem.problem_id,
            target=self.target,
            evidence=Evidence.SIMULATED if is_simulated(self.target) else Evidence.MEASURED,
            status=status,
            reason=reason,
        )
