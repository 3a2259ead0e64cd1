"""Calls on inputs that differ in every element from all before, with every output compared: what the timed blocks claim must hold there, too.

In a timed block only single elements change and only some outputs are looked at, so that whoever keeps results and mends them, or leaves calls out by knowing the
block's loop, has nothing to do there. Here all of it has to be done, and while a clock runs: the candidate is held still from before the inputs exist until the
command for them is on its way, again from its answer on, and finds the inputs destroyed when it is let go to hand over its outputs.
"""

from __future__ import annotations

import contextlib
import functools
import math
import secrets
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from tools.check.decision import reject, reject_beside
from tools.check.verdict import Rejected
from tools.timing.fresh import FreshCalls, SweepMode, Sweeps
from tools.types import Feedback, Status
from tools.worker.attempt import CandidateProcess, Deadline
from tools.worker.processes import Reply, own_wait, threads_ready
from tools.worker.session import ReferenceSession

Answer = dict[str, Any]  # Any: JSON
REFERENCE_S = 600.0
"""Limit for a command of the trusted process, in s."""
_REHEARSED_BYTES = 16 << 20
"""Up to so many bytes of inputs and outputs a sweep in place is announced and rehearsed on other draws; calls on more take longer than what that saves."""
_STORES = 3
"""How often the baseline writes its outputs for fresh inputs; the least time counts, since a disturbance would excuse what a candidate computes while it writes."""
_CROWD_LOOKS, _CROWD_LOOK_S, _CROWD = 5, 0.0005, 2
"""So many looks, so far apart, of which so many have to find somebody else's thread ready: the kernel's own come and go, and others may rest between two bursts."""
_STILL_S = 0.05
"""How long a process that was told to stop may take until its threads are seen to stand still."""


class Aside(Protocol):
    """Lets others use the device while something is done that is expected to take so many s."""

    def __call__(self, expected_s: float, *, comes_back: bool = True) -> AbstractContextManager[None]:
        """Return the context; `comes_back`: the device is needed again after it."""


@dataclass(frozen=True)
class Took:
    """What a command took by each clock, in s."""

    wall_s: float
    processor_s: float
    """0.0 on an accelerator."""
    waited_s: float = 0.0
    """How long threads that the answer may have waited for were ready and had no processor; infinite where the kernel does not say."""


class FreshSweeps:
    """Sweeps of one workload of one candidate, beside its baseline's."""

    def __init__(self, process: CandidateProcess, session: ReferenceSession, deadline: Deadline, aside: Aside) -> None:
        """Take both sides, warm, and the candidate's time limit."""
        self._process = process
        self._session = session
        self._deadline = deadline
        self._aside = aside
        self._on_cpu = session.device == "cpu"
        self._announced: list[Answer] = []
        self._least_s = {"ping": (math.inf, math.inf), "store": (math.inf, math.inf)}
        """What an empty command took the baseline, and writing its outputs, by each clock, at the least."""
        self._taken: list[tuple[SweepMode, Took, Took]] = []
        """Per round what the candidate's calls took, and writing its outputs."""

    def run(
        self, wall: Sweeps, processor: Sweeps | None, count: int, moved_bytes: int, *, mode: SweepMode, verifying_s: float
    ) -> FreshCalls:
        """Sweep both sides until another round could change nothing.

        Args:
            wall: The claims by the evaluator's clock; sweeps are added.
            processor: Those by the processor time, on `cpu`.
            count: Draws a sweep.
            moved_bytes: Inputs and outputs of one call.
            mode: See there; outputs kept until they are asked for become outputs written at once where they share memory.
            verifying_s: What making or comparing all of them is expected to take.

        Returns:
            What was found; no rounds where shapes differ from draw to draw.

        Raises:
            Rejected: An output is wrong.
        """
        found = FreshCalls(self._session.device, count, wall, processor, in_place=mode != "copied")
        if found.in_place and count * moved_bytes <= _REHEARSED_BYTES:
            self._announced, is_reused = self._rehearse(count, mode)
            found.is_rehearsed = bool(self._announced)
            mode = "at_once" if is_reused else mode
        else:
            self._novel(count, only_memory=True)
            self._process.share(self._session.arenas, self._deadline)
        while not found.is_settled:
            with contextlib.ExitStack() as hold:
                hold.enter_context(self._process.stopped())
                with self._aside(verifying_s):
                    novel = self._novel(count)
                if not novel["draws"]:
                    return found
                if not self._round(found, novel, hold, mode, verifying_s):
                    mode = "at_once"
        return found

    def _round(self, found: FreshCalls, novel: Answer, hold: contextlib.ExitStack, mode: SweepMode, verifying_s: float) -> bool:
        """Sweep both sides over new draws, with the candidate held still before and after; False if its outputs share memory, so that each has to be written at once."""
        in_place, chosen = mode != "copied", secrets.randbelow(found.draws)
        told = [] if novel["draws"] == self._announced else novel["draws"]  # values that are no tensors may differ from draw to draw
        empty = self._baseline_took(functools.partial(self._sweep_baseline, "empty", novel["draws"], in_place=False))
        eager = self._baseline_took(functools.partial(self._sweep_baseline, "eager", told, in_place=in_place))
        for _ in range(_STORES * in_place):
            for op, least in self._least_s.items():
                took = self._held_baseline_took(op)
                self._least_s[op] = (min(least[0], took.wall_s), min(least[1], took.processor_s))
        crowded = [self._is_crowded()]
        own, _ = self._took(hold, functools.partial(self._process.sweep, told, novel["outputs"] if told else [], mode, self._deadline))
        stored, answer = Took(0.0, 0.0), Answer()
        if mode == "in_place":
            self._session.ask("overwrite", REFERENCE_S, chosen=chosen)
            crowded.append(self._is_crowded())
            stored, answer = self._took(hold, functools.partial(self._process.store, self._deadline))
        if answer.get("reused") is True and found.draws > 1:
            return False
        crowded.append(self._is_crowded())
        # What takes longer to write than it takes the baseline is computed while it is written; written at once, it is part of the sweep.
        self._taken.append((mode, own, stored))
        found.wall.add(empty.wall_s, eager.wall_s)
        if found.processor is not None:
            found.processor.add(empty.processor_s, eager.processor_s)
        self._set_computing(found)
        found.is_crowded |= self._on_cpu and any(crowded)
        # A candidate can make its own threads wait, so waiting counts only where somebody else's were there to be waited for.
        found.waited_s.append(sum(item.waited_s for item, *seen in zip((own, stored), crowded, crowded[1:], strict=False) if any(seen)))
        with self._aside(verifying_s, comes_back=not found.is_settled):
            self._verify(chosen)
        return True

    def _set_computing(self, found: FreshCalls) -> None:
        """State what each round's calls took, with what is now known of the rest: a disturbed round knows too much of it, and would excuse what a candidate computes."""
        found.wall.own_s = [self._computing_s(own.wall_s, stored.wall_s, 0, mode) for mode, own, stored in self._taken]
        if found.processor is not None:
            found.processor.own_s = [self._computing_s(own.processor_s, stored.processor_s, 1, mode) for mode, own, stored in self._taken]

    def _computing_s(self, swept_s: float, stored_s: float, clock: int, mode: SweepMode) -> float:
        """Return what a sweep took besides being let go and held again, and writing outputs as quickly as the baseline does."""
        if mode == "copied":
            return swept_s
        ping_s, store_s = self._least_s["ping"][clock], self._least_s["store"][clock]
        return max(0.0, swept_s - store_s) if mode == "at_once" else max(0.0, swept_s - ping_s) + max(0.0, stored_s - store_s)

    def _rehearse(self, count: int, mode: SweepMode) -> tuple[list[Answer], bool]:
        """Tell the candidate where draws will lie and outputs go, and sweep both sides over draws that count for nothing: memory is met, threads are awake.

        Returns:
            The draws as they will be told, empty where shapes differ from draw to draw; whether outputs share memory.
        """
        with self._process.stopped():
            decoys = self._novel(count)
            if not decoys["draws"]:
                return [], False
            self._sweep_baseline("eager", (), in_place=True)
            self._session.request("store", REFERENCE_S)
        self._process.share(self._session.arenas, self._deadline)
        self._process.announce(decoys["draws"], decoys["outputs"], self._deadline)
        with self._session.stopped():
            self._process.sweep((), (), mode, self._deadline)
            is_reused = mode == "in_place" and self._process.store(self._deadline).data.get("reused") is True
        return decoys["draws"], is_reused and count > 1

    def _novel(self, count: int, *, only_memory: bool = False) -> Answer:
        """Have the trusted process draw inputs that nobody has seen; `only_memory`: see to the room for them."""
        seeds = [secrets.randbits(62) for _ in range(count)]
        return self._session.ask("novel", REFERENCE_S, seeds=seeds, only_memory=only_memory)

    def _sweep_baseline(self, arm: str, draws: Sequence[Answer], *, in_place: bool) -> Reply:
        """Run a baseline's sweep; what it draws from it is told as a candidate is, so that the message takes both as long."""
        return self._session.request("sweep", REFERENCE_S, arm=arm, in_place=in_place, draws=list(draws))

    def _verify(self, chosen: int) -> None:
        answer = self._session.ask("verify_sweep", REFERENCE_S, chosen=chosen)
        for number, item in enumerate(answer["stats"]):
            reason = reject(item) or next((found for other in answer["others"] if (found := reject_beside(other[number], item))), "")
            if reason:
                raise Rejected(
                    Status.REWARD_HACK,
                    f"the output of a call on fresh inputs is wrong though the same kernel passed the check: {reason}",
                    Feedback(error="results must be computed from the inputs of each call"),
                )

    # --- clocks ----------------------------------------------------------------------------------------------------------------------------

    def _baseline_took(self, work: Callable[[], Reply]) -> Took:
        if not self._on_cpu:
            return Took(work().seconds, 0.0)
        before = self._session.cpu_seconds()
        reply = work()
        with self._session.stopped():  # a running thread's time is counted up to the last tick only
            return Took(reply.seconds, self._session.cpu_seconds() - before)

    def _held_baseline_took(self, op: str) -> Took:
        """Clock a command of the baseline as the candidate's are clocked."""
        with contextlib.ExitStack() as hold:
            hold.enter_context(self._session.stopped())
            used_s, began = self._session.cpu_seconds(), time.perf_counter()
            self._session.request(op, REFERENCE_S, start=hold.close)
            wall_s = hold.enter_context(self._session.stopped()) - began
            return Took(wall_s, self._session.cpu_seconds() - used_s)

    def _took(self, hold: contextlib.ExitStack, command: Callable[[Callable[[], None]], Reply]) -> tuple[Took, Answer]:
        """Clock a command from when the candidate is let go for it until it is held still again: no moment of its is left out."""
        with self._session.stopped() if self._on_cpu else contextlib.nullcontext():
            waits, used_s = (self._waits(), self._process.cpu_seconds()) if self._on_cpu else (None, 0.0)
            began = time.perf_counter()
            reply = command(hold.close)
            wall_s = hold.enter_context(self._process.stopped()) - began
            if not self._on_cpu:
                return Took(reply.seconds, 0.0), reply.data
            return Took(wall_s, self._process.cpu_seconds() - used_s, _longest_wait(waits, self._waits())), reply.data

    def _waits(self) -> dict[int, float] | None:
        """Return how long each thread of the candidate's, and this one that waits for its answers (as 0), was ready and had no processor so far, in s."""
        theirs, ours = self._process.waits(), own_wait()
        return None if theirs is None or ours is None else {**theirs, 0: ours}

    def _is_crowded(self) -> bool:
        """Tell, while the candidate is held still, whether somebody else's threads are ready to run; True where the kernel does not say."""
        if not self._on_cpu:
            return True
        with self._session.stopped():
            deadline = time.monotonic() + _STILL_S
            while not (self._session.is_still() and self._process.is_still()) and time.monotonic() < deadline:
                time.sleep(_CROWD_LOOK_S)
            found = 0
            for _ in range(_CROWD_LOOKS):
                ready = threads_ready()
                found += ready is None or ready > 1  # the one that asks is ready
                time.sleep(_CROWD_LOOK_S)
        return found >= _CROWD


def _longest_wait(before: dict[int, float] | None, after: dict[int, float] | None) -> float:
    """Return what the thread of the candidate's that waited most waited meanwhile, and this side's besides, in s; infinite where the kernel does not say."""
    if before is None or after is None:
        return math.inf
    waited = {item: after[item] - before.get(item, 0.0) for item in after}
    ours = waited.pop(0)
    return ours + max(waited.values(), default=0.0)
