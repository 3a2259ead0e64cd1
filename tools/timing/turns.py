"""The commands of one evaluation's processes, each beside those of others and never beside a timing, which so waits for one short command at most.

While a command runs, processes that a later phase needs may initialise their device. That takes longer than most commands: the device is then kept from command to
command until it is done, instead of letting a command that is over wait for it.

A command that takes long (compiling does) is interrupted for the timings of others: its processes are held still, and once a process that nothing of a candidate has
been loaded into finds the device idle, the timing may begin. Where it is not idle, because a kernel still runs, the timing waits for the command's end.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from tools.timing.exclusive import Hold
from tools.timing.parts import part

if TYPE_CHECKING:
    from tools.worker.attempt import CandidateProcess
    from tools.worker.processes import Worker

_LONG_S = 0.5
"""A shorter command is waited for; also the least time that an interrupted one goes on before the next interruption."""
_DRAIN_S = 0.02
_POLL_S = 0.02


class Turns:
    """Use as a context manager; leaving waits for processes that are still initialising, and lets go of the device."""

    def __init__(self, enter: Callable[[], AbstractContextManager[Hold]], parts_s: dict[str, float]) -> None:
        """Take note of how the device is asked for.

        Args:
            enter: Returns a context in which no timing runs.
            parts_s: Where waiting is added up, in s: `waited` for a turn, `held` still for timings, `held_in_vain` when the device was not idle.
        """
        self._enter = enter
        self._parts_s = parts_s
        self._coming: list[tuple[CandidateProcess, bool]] = []
        self._opening: list[CandidateProcess] = []
        self._let_go: Callable[[], None] | None = None

    def __enter__(self) -> Turns:
        return self

    def __exit__(self, *exc: object) -> None:
        for process in self._opening:
            process.await_device()
        self._settle()

    def open_beside(self, process: CandidateProcess, *, profiler: bool = False) -> None:
        """Have a process initialise its device beside the next command; arguments as for `CandidateProcess.open_device`."""
        self._coming.append((process, profiler))

    @contextlib.contextmanager
    def turn(self, is_idle: Callable[[], bool] | None = None) -> Iterator[Interruption | None]:
        """Run a command of any of the processes inside the context.

        Args:
            is_idle: Tells whether the device does nothing; None: the command is not interrupted.

        Yields:
            What interrupts the command; None if nothing does.
        """
        self._settle()
        with contextlib.ExitStack() as stack:
            hold = None
            if self._let_go is None:
                with part(self._parts_s, "waited"):
                    hold = stack.enter_context(self._enter())
            coming, self._coming = self._coming, []
            for process, profiler in coming:
                if hold is not None and self._let_go is None:
                    self._let_go = hold.keep()
                process.open_device(profiler=profiler)
                self._opening.append(process)
            yield None if hold is None or is_idle is None else Interruption(hold, is_idle, self._may_give_way, self._parts_s)
        self._settle()

    def _may_give_way(self) -> bool:
        self._settle()
        return self._let_go is None

    def _settle(self) -> None:
        """Let go of the device once nothing is initialising any more."""
        self._opening = [process for process in self._opening if process.is_opening()]
        if not self._opening and self._let_go is not None:
            self._let_go()
            self._let_go = None


class Interruption:
    """Holds the process of a long command still while others time."""

    def __init__(self, hold: Hold, is_idle: Callable[[], bool], may_give_way: Callable[[], bool], parts_s: dict[str, float]) -> None:
        self._hold = hold
        self._is_idle = is_idle
        self._may_give_way = may_give_way
        self._parts_s = parts_s
        self._next = time.monotonic() + _LONG_S

    def look(self, worker: Worker) -> float:
        """Wait a moment for the command's answer, or for the end of timings that are due; return for how long the process was held still, in s."""
        worker.await_answer(_POLL_S)
        began = time.monotonic()
        if began < self._next or not self._hold.is_wanted() or not self._may_give_way():
            return 0.0
        with worker.stopped():
            time.sleep(_DRAIN_S)
            with self._hold.looking() as alone:
                gives_way = alone and self._is_idle()
            if gives_way:
                self._hold.give_way()
        held_s = time.monotonic() - began
        name = "held" if gives_way else "held_in_vain"
        self._parts_s[name] = self._parts_s.get(name, 0.0) + held_s
        self._next = time.monotonic() + (_LONG_S if gives_way or alone else _POLL_S)
        return held_s
