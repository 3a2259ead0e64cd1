"""One timing at a time on an accelerator of this machine, and nothing else of ours beside it, by file locks that end with their process.

Timings go before checks: while one waits or runs no check begins, so that those that are due follow each other closely instead of each waiting for a check of
several seconds. Since every timing comes after a check of its own, checks get their turn; one that has waited long goes first all the same.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from tools.check.verdict import Rejected
from tools.types import Status

_WAIT_S = 900.0
_PATIENCE_S = 30.0
"""After so long a check goes before the timings that come later."""
_POLL_S = 0.01


@contextlib.contextmanager
def exclusive_device(device: str, accelerator: str = "") -> Iterator[None]:
    """Hold the device for timing; does nothing on `cpu`, whose cores are shared with everything anyway.

    Args:
        device: torch device type.
        accelerator: Which one, if not what `CUDA_VISIBLE_DEVICES` says here.

    Raises:
        Rejected: Other evaluations held the device for 15 minutes.
    """
    if device == "cpu":
        yield
        return
    deadline = time.monotonic() + _WAIT_S
    with _files(device, accelerator) as (use, timings, gate):
        _lock(gate, fcntl.LOCK_SH, deadline)
        _lock(timings, fcntl.LOCK_SH, deadline)
        fcntl.flock(gate, fcntl.LOCK_UN)
        _lock(use, fcntl.LOCK_EX, deadline)
        yield


class Hold:
    """A use of the device beside others."""

    def __init__(self, file: IO[str] | None = None) -> None:
        self._file = file

    def keep(self) -> Callable[[], None]:
        """Keep it beyond the context that it came from; return what lets go of it."""
        if self._file is None:
            return lambda: None
        return functools.partial(os.close, os.dup(self._file.fileno()))  # a lock lasts until the last copy of its descriptor is closed


@contextlib.contextmanager
def shared_device(device: str, accelerator: str = "") -> Iterator[Hold]:
    """Use the device beside others that check or prepare, never beside a timing; arguments and errors as for `exclusive_device`."""
    if device == "cpu":
        yield Hold()
        return
    began = time.monotonic()
    deadline = began + _WAIT_S
    with _files(device, accelerator) as (use, timings, gate):
        while not _try(timings, fcntl.LOCK_EX):
            _require_time(deadline)
            if time.monotonic() - began > _PATIENCE_S:
                _lock(gate, fcntl.LOCK_EX, deadline)  # timings that come now wait behind this check
                _lock(timings, fcntl.LOCK_EX, deadline)
                break
            time.sleep(_POLL_S)
        _lock(use, fcntl.LOCK_SH, deadline)  # at once: no timing runs
        fcntl.flock(timings, fcntl.LOCK_UN)
        fcntl.flock(gate, fcntl.LOCK_UN)
        yield Hold(use)


@contextlib.contextmanager
def _files(device: str, accelerator: str) -> Iterator[tuple[IO[str], IO[str], IO[str]]]:
    """Yield the files whose locks say: who uses the device; that timings wait or run; that a check has waited too long."""
    name = (accelerator or os.environ.get("CUDA_VISIBLE_DEVICES", "all")).replace(",", "_").replace("/", "_")
    path = Path(tempfile.gettempdir()) / f"kevolve-{device}-{name}-{os.getuid()}.lock"
    with path.open("a") as use, path.with_suffix(".timings").open("a") as timings, path.with_suffix(".gate").open("a") as gate:
        yield use, timings, gate


def _lock(file: IO[str], kind: int, deadline: float) -> None:
    while not _try(file, kind):
        _require_time(deadline)
        time.sleep(_POLL_S)


def _try(file: IO[str], kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _require_time(deadline: float) -> None:
    if time.monotonic() > deadline:
        raise Rejected(Status.NOT_MEASURED, "another evaluation on this machine has held the device for 15 minutes")
