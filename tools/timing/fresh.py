"""Whether claimed times hold for calls on inputs that nobody has seen: the arithmetic. Standard library only.

A clock of the evaluator's side runs around a whole sweep of calls. On the CPU they are made in place, on inputs that are destroyed before the outputs are asked for.
Elsewhere new inputs are copied in for each call and its output is copied out; the same sweep without a call, in the trusted process, says what the copying costs.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any, Literal

SweepMode = Literal["in_place", "at_once", "copied"]
"""Calls where the draws lie, with outputs kept until they are asked for; the same with each output written at once; or values copied in and outputs out."""
_MAX_ROUNDS = 8
"""Rounds while the claim does not hold: a disturbance of the host can only add, so the least of all rounds counts."""
_CLEAR, _CLEAR_ROUNDS = 3.0, 6
"""A claim that is so many times further off than is allowed, by every clock, needs no more rounds than this."""
_EXCUSED_ROUNDS = 5
"""Rounds if the claim only holds because the baseline is slower in sweeps than in its blocks, too: a disturbance of one round would excuse anything."""
_CROWDED_ROUNDS = 3
"""Rounds at the least where others use the processors."""
_DISTURBED = 2.0
_FACTOR = 1.5
"""A call on fresh inputs may take this many times what is claimed, beyond what it costs the baseline."""
_FLOOR_MS = {"cpu": 0.4, "cuda": 0.0}
"""Per sweep: threads that wake up and the answer's way, twice."""
_LOADED_MS = {"cpu": 0.6, "cuda": 0.0}
"""Per sweep, on top: what others who use the cores at the same time left in the best of six rounds; never more than `_LOADED_FACTOR` times what is claimed."""
_LOADED_FACTOR = 3.0
_CALL_FLOOR_MS = {"cpu": 0.0, "cuda": 0.3}
"""Per call: on a GPU launches wait for nothing while the cache is flushed, here they are waited for."""
_COPY_SHARE = 0.25
"""Share of the copying that may be error."""
_COLD_SHARE = 0.1
"""Share of the copying that calls in place may take longer, on inputs that another process wrote and this one's caches lack."""
MOST_DRAWS = {"cpu": 24, "cuda": 8}
"""Many where calls are short: what a sweep may take beyond the calls is then little for each."""
_SWEEP_MS = 6.0
_SWEEP_BYTES = 96 << 20
MOST_BYTES = {"quick": 2 * _SWEEP_BYTES, "full": 2 << 30}
"""Inputs and outputs of a call that a sweep is made for, by effort: a GiB takes a second to bring from process to process."""


def num_draws(nbytes: int, quickest_ms: float, most_bytes: int = MOST_BYTES["full"], device: str = "cuda") -> int:
    """Return how many fresh draws a sweep takes: enough for 6 ms of the quicker side, at most `MOST_DRAWS` and 96 MiB, but at least two; one where a draw is large.

    Args:
        nbytes: Inputs and outputs of one call.
        quickest_ms: Least latency that the baseline or the candidate is said to have: what a sweep costs besides its calls is then little for each.
        most_bytes: See `MOST_BYTES`.
        device: See `MOST_DRAWS`.

    Returns:
        0 where one draw has more bytes than that.
    """
    if nbytes > most_bytes:
        return 0
    if nbytes > _SWEEP_BYTES * 2:
        return 1
    return max(2, min(MOST_DRAWS[device], math.ceil(_SWEEP_MS / max(quickest_ms, 1e-6)), _SWEEP_BYTES // max(nbytes, 1)))


@dataclass
class Sweeps:
    """Sweeps by one clock: what the timed blocks claim, in ms a call, and what whole sweeps took, in s."""

    claimed_ms: float
    eager_ms: float
    empty_s: list[float] = field(default_factory=list)
    eager_s: list[float] = field(default_factory=list)
    own_s: list[float] = field(default_factory=list)

    def add(self, empty_s: float, eager_s: float) -> None:
        """Take note of one round of the baseline's."""
        self.empty_s.append(empty_s)
        self.eager_s.append(eager_s)


@dataclass
class FreshCalls:
    """Sweeps over fresh inputs beside what is claimed."""

    device: str
    draws: int
    """Calls per sweep."""
    wall: Sweeps
    """By the evaluator's clock."""
    processor: Sweeps | None = None
    """By the processor time that the kernel counts, on `cpu`: it does not grow when others use the machine."""
    in_place: bool = False
    """Nothing is copied while the clock runs."""
    is_rehearsed: bool = False
    """Sweeps are short and were announced."""
    is_crowded: bool = False
    """Others used the processors meanwhile: what a round takes besides the calls is then known after several only."""
    waited_s: list[float] = field(default_factory=list)
    """Per round, how long the candidate's thread that waited most was ready and had no processor while others were there; infinite where the kernel does not say."""

    @property
    def rounds(self) -> int:
        """Sweeps so far."""
        return len(self.wall.own_s)

    @property
    def is_settled(self) -> bool:
        """Whether another round could change nothing, or there were enough."""
        if self.complaint():
            return self.rounds >= (_CLEAR_ROUNDS if self.complaint(times=_CLEAR) else _MAX_ROUNDS)
        if not self.rounds or not self.is_rehearsed:
            return self.rounds > 0
        is_disturbed = self.is_crowded or self._is_disturbed()
        return self.rounds >= (_EXCUSED_ROUNDS if self.complaint(strict=True) else _CROWDED_ROUNDS if is_disturbed else 1)

    def _is_disturbed(self) -> bool:
        """Whether the baseline's sweeps took so much longer than its blocks that what they allow the candidate is somebody else's doing."""
        return min(self.wall.eager_s) * 1000.0 > _DISTURBED * self.draws * self.wall.eager_ms + _FLOOR_MS[self.device]

    def complaint(self, *, strict: bool = False, times: float = 1.0) -> str:
        """Return why the claimed time cannot be what a call takes; empty if it can by either clock.

        Args:
            strict: However slow the baseline is.
            times: So many times what is allowed would be, too.
        """
        if not self.rounds:
            return ""
        # The baseline's sweep copies the same and calls besides, so copying takes no longer than all of that; a first empty sweep also meets new memory.
        used = self.processor.empty_s + self.processor.eager_s if self.processor else []
        copying_s = min(self.wall.empty_s + self.wall.eager_s + used)
        text = self._complaint(self.wall, copying_s, self.wall.own_s, strict, times)
        if not text or self.processor is None:
            return text
        if by_processor := self._complaint(self.processor, min(used), self.processor.own_s, strict, times):
            return by_processor
        # Little processor time excuses much wall time only where the candidate had to wait for a processor: a claim may hold spinning threads' time, too.
        return self._complaint(self.wall, copying_s, self._without_waits(), strict, times)

    @property
    def is_doubtful(self) -> bool:
        """Whether all that speaks against the claim may be others' doing: threads waited for a processor, and those that wait for them may spin meanwhile."""
        if not self.complaint() or self.processor is None:
            return False
        copying_s = min(self.wall.empty_s + self.wall.eager_s + self.processor.empty_s + self.processor.eager_s)
        return not self._complaint(self.wall, copying_s, self._without_waits(), False, 1.0)

    def _without_waits(self) -> list[float]:
        return [own - waited for own, waited in zip(self.wall.own_s, self.waited_s or [math.inf] * self.rounds, strict=True)]

    def _complaint(self, clock: Sweeps, copying_s: float, own_s: list[float], strict: bool, times: float) -> str:
        copied_s = 0.0 if self.in_place else copying_s
        own_ms, eager_ms = (max(0.0, min(sweeps) - copied_s) * 1000.0 / self.draws for sweeps in (own_s, clock.eager_s))
        slower = 1.0 if strict else max(1.0, eager_ms / max(clock.eager_ms, 1e-6))
        share = _COLD_SHARE if self.in_place else _COPY_SHARE
        floor_ms = _CALL_FLOOR_MS[self.device] + (_FLOOR_MS[self.device] + share * copying_s * 1000.0) / self.draws
        floor_ms += min(_LOADED_MS[self.device] / self.draws, _LOADED_FACTOR * clock.claimed_ms)
        if own_ms <= times * (_FACTOR * slower * clock.claimed_ms + floor_ms):
            return ""
        return (
            f"a call takes {own_ms:.4f} ms on inputs that were not seen before and {clock.claimed_ms:.4f} ms on those of the timed calls, "
            f"the baseline {eager_ms:.4f} ms and {clock.eager_ms:.4f} ms: results are kept, or calls are left out"
        )

    def as_json(self) -> dict[str, Any]:  # Any: JSON
        """Return the raw times, for the receipt."""
        return dataclasses.asdict(self)
