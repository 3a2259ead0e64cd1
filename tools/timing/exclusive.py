"""One timing at a time on an accelerator of this machine, and nothing else of ours beside it, by file locks that end with their process.

Timings go before checks: while one waits or runs no check begins, so that those that are due follow each other closely instead of each waiting for a check of
several seconds. Since every timing comes after a check of its own, checks get their turn; one that has waited long goes first all the same. A long command may give
way (`Hold.give_way`) once its process is held still and the device does nothing.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import time
from collections.abc import Callable, Iterator
from typing import IO, NamedTuple

from tools.check.verdict import Rejected
from tools.timing.locks import lock_path, try_lock
from tools.types import Status

_WAIT_S = 900.0
_PATIENCE_S = 30.0
"""After so long a check goes before the timings that come later."""
_POLL_S = 0.01


class Alone:
    """A timing's use of the device."""

    def __init__(self, files: _Files | None = None) -> None:
        self._files = files
        self.waited_s = 0.0
        """How long other uses were waited for in `aside`, in s."""

    @contextlib.contextmanager
    def aside(self, *, comes_back: bool = True) -> Iterator[None]:
        """Let others use the device inside the context, too, for work that is no timing; errors as for `exclusive_device`.

        Args:
            comes_back: Have the device alone again afterwards, unless the context ends with an exception.
        """
        if self._files is None:
            yield
            return
        began = time.monotonic()
        fcntl.flock(self._files.use, fcntl.LOCK_UN)
        fcntl.flock(self._files.timings, fcntl.LOCK_UN)
        _join(self._files)
        self.waited_s += time.monotonic() - began
        yield
        if comes_back:
            began = time.monotonic()
            fcntl.flock(self._files.use, fcntl.LOCK_UN)
            _take(self._files)
            self.waited_s += time.monotonic() - began


@contextlib.contextmanager
def exclusive_device(device: str, accelerator: str = "") -> Iterator[Alone]:
    """Hold the device for timing; does nothing on `cpu`, whose cores are shared with everything anyway.

    Args:
        device: torch device type.
        accelerator: Which one, if not what `CUDA_VISIBLE_DEVICES` says here.

    Raises:
        Rejected: Other evaluations held the device for 15 minutes.
    """
    if device == "cpu":
        yield Alone()
        return
    with _files(device, accelerator) as files:
        _take(files)
        yield Alone(files)


def _take(files: _Files) -> None:
    """Take the device for a timing as soon as nobody uses it."""
    deadline = time.monotonic() + _WAIT_S
    _lock(files.gate, fcntl.LOCK_SH, deadline)
    _lock(files.timings, fcntl.LOCK_SH, deadline)
    fcntl.flock(files.gate, fcntl.LOCK_UN)
    _lock(files.use, fcntl.LOCK_EX, deadline)


class Hold:
    """A use of the device beside others."""

    def __init__(self, files: _Files | None = None) -> None:
        self._files = files

    def keep(self) -> Callable[[], None]:
        """Keep it beyond the context that it came from; return what lets go of it."""
        if self._files is None:
            return lambda: None
        return functools.partial(os.close, os.dup(self._files.use.fileno()))  # a lock lasts until the last copy of its descriptor is closed

    def is_wanted(self) -> bool:
        """True if a timing waits for the device."""
        if self._files is None:
            return False
        if not try_lock(self._files.timings, fcntl.LOCK_EX):
            return True
        fcntl.flock(self._files.timings, fcntl.LOCK_UN)
        return False

    @contextlib.contextmanager
    def looking(self) -> Iterator[bool]:
        """Yield whether nobody else looks just now at what the device does: two who look at once see each other."""
        if self._files is None or not try_lock(self._files.look, fcntl.LOCK_EX):
            yield False
            return
        try:
            yield True
        finally:
            fcntl.flock(self._files.look, fcntl.LOCK_UN)

    def give_way(self) -> None:
        """Let timings go first and come back after them; raises as `exclusive_device` does."""
        if self._files is not None:
            fcntl.flock(self._files.use, fcntl.LOCK_UN)
            _join(self._files)


@contextlib.contextmanager
def shared_device(device: str, accelerator: str = "") -> Iterator[Hold]:
    """Use the device beside others that check or prepare, never beside a timing; arguments and errors as for `exclusive_device`."""
    if device == "cpu":
        yield Hold()
        return
    with _files(device, accelerator) as files:
        _join(files)
        yield Hold(files)


def _join(files: _Files) -> None:
    """Take the device beside others as soon as no timing runs or waits."""
    began = time.monotonic()
    deadline = began + _WAIT_S
    while not try_lock(files.timings, fcntl.LOCK_EX):
        _require_time(deadline)
        if time.monotonic() - began > _PATIENCE_S:
            _lock(files.gate, fcntl.LOCK_EX, deadline)  # timings that come now wait behind this check
            _lock(files.timings, fcntl.LOCK_EX, deadline)
            break
        time.sleep(_POLL_S)
    _lock(files.use, fcntl.LOCK_SH, deadline)  # at once: no timing runs
    fcntl.flock(files.timings, fcntl.LOCK_UN)
    fcntl.flock(files.gate, fcntl.LOCK_UN)


class _Files(NamedTuple):
    """Files whose locks say who does what with the device."""

    use: IO[str]
    """Checks beside each other, or one timing."""
    timings: IO[str]
    """Timings that wait or run."""
    gate: IO[str]
    """A check that has waited too long."""
    look: IO[str]
    """Somebody looks whether the device is doing anything."""


@contextlib.contextmanager
def _files(device: str, accelerator: str) -> Iterator[_Files]:
    path = lock_path(device, accelerator)
    with contextlib.ExitStack() as stack:
        yield _Files(
            *(stack.enter_context(path.with_name(path.name + suffix).open("a")) for suffix in (".lock", ".timings", ".gate", ".look"))
        )


def _lock(file: IO[str], kind: int, deadline: float) -> None:
    while not try_lock(file, kind):
        _require_time(deadline)
        time.sleep(_POLL_S)


def _require_time(deadline: float) -> None:
    if time.monotonic() > deadline:
        raise Rejected(Status.NOT_MEASURED, "another evaluation on this machine has held the device for 15 minutes")
