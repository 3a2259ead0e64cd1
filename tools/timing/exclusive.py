"""One timing at a time on an accelerator of this machine, and nothing else of ours beside it, by a file lock that ends with its process."""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO

from tools.check.verdict import Rejected
from tools.types import Status

_WAIT_S = 900.0
_POLL_S = 0.01


def exclusive_device(device: str, accelerator: str = "") -> AbstractContextManager[None]:
    """Hold the device for timing; does nothing on `cpu`, whose cores are shared with everything anyway.

    Args:
        device: torch device type.
        accelerator: Which one, if not what `CUDA_VISIBLE_DEVICES` says here.

    Raises:
        Rejected: Other evaluations held the device for 15 minutes.
    """
    return _held(device, accelerator, fcntl.LOCK_EX)


def shared_device(device: str, accelerator: str = "") -> AbstractContextManager[None]:
    """Use the device beside others that check or prepare, never beside a timing; arguments and errors as for `exclusive_device`."""
    return _held(device, accelerator, fcntl.LOCK_SH)


@contextlib.contextmanager
def _held(device: str, accelerator: str, kind: int) -> Iterator[None]:
    if device == "cpu":
        yield
        return
    name = (accelerator or os.environ.get("CUDA_VISIBLE_DEVICES", "all")).replace(",", "_").replace("/", "_")
    path = Path(tempfile.gettempdir()) / f"kevolve-{device}-{name}-{os.getuid()}.lock"
    deadline = time.monotonic() + _WAIT_S
    with path.open("a") as file, path.with_suffix(".gate").open("a") as gate:
        # Who waits for the device holds the gate, so that nobody who comes later goes first: checks that keep coming would starve a timing.
        _lock(gate, fcntl.LOCK_EX, deadline)
        _lock(file, kind, deadline)
        fcntl.flock(gate, fcntl.LOCK_UN)
        yield


def _lock(file: IO[str], kind: int, deadline: float) -> None:
    while True:
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise Rejected(Status.NOT_MEASURED, "another evaluation on this machine has held the device for 15 minutes") from None
            time.sleep(_POLL_S)
