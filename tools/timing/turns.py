"""The commands of one evaluation's processes, each beside those of others and never beside a timing, which so waits for one command at most.

While a command runs, processes that a later phase needs may initialise their device. That takes longer than most commands: the device is then kept from command to
command until it is done, instead of letting a command that is over wait for it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

from tools.timing.exclusive import Hold
from tools.worker.attempt import CandidateProcess


class Turns:
    """Use as a context manager; leaving waits for processes that are still initialising, and lets go of the device."""

    def __init__(self, enter: Callable[[], AbstractContextManager[Hold]]) -> None:
        """Take note of how the device is asked for.

        Args:
            enter: Returns a context in which no timing runs.
        """
        self._enter = enter
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
    def turn(self) -> Iterator[None]:
        """Run a command of any of the processes inside the context."""
        self._settle()
        with contextlib.ExitStack() as stack:
            hold = stack.enter_context(self._enter()) if self._let_go is None else None
            coming, self._coming = self._coming, []
            for process, profiler in coming:
                if hold is not None and self._let_go is None:
                    self._let_go = hold.keep()
                process.open_device(profiler=profiler)
                self._opening.append(process)
            yield
        self._settle()

    def _settle(self) -> None:
        """Let go of the device once nothing is initialising any more."""
        self._opening = [process for process in self._opening if process.is_opening()]
        if not self._opening and self._let_go is not None:
            self._let_go()
            self._let_go = None
