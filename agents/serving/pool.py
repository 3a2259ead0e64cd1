"""Several evaluators of this machine behind one `evaluate`: as many evaluations at a time as there are slots."""

from __future__ import annotations

import queue
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from tools.evaluator import LocalEvaluator
from tools.slots import Slot
from tools.types import QUICK, Candidate, Effort, Evaluation, Problem


class ClosableEvaluator(Protocol):
    """What a pool holds: evaluates one candidate at a time."""

    def evaluate(self, candidate: Candidate, problem: Problem, target: str, effort: Effort = QUICK, *, seed: int = 0) -> Evaluation:
        """Return what became of the candidate."""

    def close(self) -> None:
        """End every process. Safe to call twice."""


class EvaluatorPool:
    """Evaluators that take turns; a context manager. Thread-safe.

    Args:
        members: At least one.
    """

    def __init__(self, members: Sequence[ClosableEvaluator]) -> None:
        if not members:
            raise ValueError("a pool needs at least one evaluator")
        self._members = list(members)
        self._free: queue.SimpleQueue[ClosableEvaluator] = queue.SimpleQueue()
        for member in members:
            self._free.put(member)

    @property
    def num_slots(self) -> int:
        """Evaluations that run at a time."""
        return len(self._members)

    def evaluate(self, candidate: Candidate, problem: Problem, target: str, effort: Effort = QUICK, *, seed: int = 0) -> Evaluation:
        """Wait for a free evaluator and use it; raises what it raises."""
        return self.use(lambda member: member.evaluate(candidate, problem, target, effort, seed=seed))

    def use(self, work: Callable[[ClosableEvaluator], Evaluation]) -> Evaluation:
        """Wait for a free evaluator and let `work` have it."""
        member = self._free.get()
        try:
            return work(member)
        finally:
            self._free.put(member)

    def close(self) -> None:
        """Close every evaluator. Safe to call twice."""
        for member in self._members:
            member.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def local_pool(home: Path, slots: Sequence[Slot], *, use_compiled_baseline: bool = True) -> EvaluatorPool:
    """Return a pool of evaluators of this machine, one per slot."""
    return EvaluatorPool([LocalEvaluator(home, slot=slot, use_compiled_baseline=use_compiled_baseline) for slot in slots])
