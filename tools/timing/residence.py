"""Whose memory may be on an accelerator: that of many evaluations at a time, or of one that needs it whole. By file locks, which end with their process."""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from tools.check.verdict import Rejected
from tools.types import Status

_WAIT_S = 900.0
_POLL_S = 0.02


@contextlib.contextmanager
def beside_others(accelerator: str, make_room: Callable[[bool], None]) -> Iterator[None]:
    """Keep memory on the device beside other evaluations; none begins while one waits for the whole device.

    Args:
        accelerator: Which one; empty: what `CUDA_VISIBLE_DEVICES` says.
        make_room: Called at the end, before others may rely on the memory; it is told whether somebody waits for the whole device.

    Raises:
        Rejected: Somebody had or wanted the whole device for 15 minutes.
    """
    deadline = time.monotonic() + _WAIT_S
    with _files(accelerator) as (house, wanted):
        _lock(wanted, fcntl.LOCK_SH, deadline)
        _lock(house, fcntl.LOCK_SH, deadline)
        fcntl.flock(wanted, fcntl.LOCK_UN)
        try:
            yield
        finally:
            make_room(not _try(wanted, fcntl.LOCK_SH))


@contextlib.contextmanager
def alone(accelerator: str) -> Iterator[None]:
    """Have the device's whole memory, as soon as the evaluations that run have ended; arguments and errors as for `beside_others`."""
    deadline = time.monotonic() + _WAIT_S
    with _files(accelerator) as (house, wanted):
        _lock(wanted, fcntl.LOCK_EX, deadline)
        _lock(house, fcntl.LOCK_EX, deadline)
        yield


@contextlib.contextmanager
def _files(accelerator: str) -> Iterator[tuple[IO[str], IO[str]]]:
    name = (accelerator or os.environ.get("CUDA_VISIBLE_DEVICES", "all")).replace(",", "_").replace("/", "_")
    path = Path(tempfile.gettempdir()) / f"kevolve-memory-{name}-{os.getuid()}.lock"
    with path.open("a") as house, path.with_suffix(".wanted").open("a") as wanted:
        yield house, wanted


def _lock(file: IO[str], kind: int, deadline: float) -> None:
    while not _try(file, kind):
        if time.monotonic() > deadline:
            raise Rejected(Status.NOT_MEASURED, "another evaluation on this machine has held the device's memory for 15 minutes")
        time.sleep(_POLL_S)


def _try(file: IO[str], kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
