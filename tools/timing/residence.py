"""Whose memory may be on an accelerator: evaluations beside each other reserve what they will need, and wait until it is there.

A reservation is a file whose lock ends with its process; its content is the number of bytes. They are served in the order in which they were asked for, so one
that needs nearly everything waits for those before it only.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from tools.check.verdict import Rejected
from tools.timing.locks import lock_path, try_lock
from tools.types import Status

_WAIT_S = 900.0
_POLL_S = 0.02
_USABLE = 0.92
"""Share of the device's memory that is shared out; contexts of processes and what others hold take the rest."""


class Residence:
    """Memory of one evaluation on an accelerator, as far as evaluations of this user on this machine agree on it."""

    def __init__(self, accelerator: str) -> None:
        """Take note of the device; empty: what `CUDA_VISIBLE_DEVICES` says. Nothing is reserved yet."""
        self._directory = lock_path("memory", accelerator)
        self._held: IO[str] | None = None
        self.reserved_bytes = 0

    def reserve(self, num_bytes: int, total_bytes: int) -> None:
        """Replace the reservation; what is asked for beyond the device's usable memory is the whole of it.

        More than before is waited for without what was reserved before, so that no two wait for each other.

        Args:
            num_bytes: Needed at the most.
            total_bytes: The device's memory.

        Raises:
            Rejected: Others held the memory for 15 minutes.
        """
        usable = int(_USABLE * total_bytes)
        wanted = min(num_bytes, usable)
        if self._held is not None and wanted <= self.reserved_bytes:
            self._write(wanted)
            return
        self.release()
        deadline = time.monotonic() + _WAIT_S
        self._directory.mkdir(mode=0o700, exist_ok=True)
        with (self._directory / "queue").open("a") as queue:
            while not try_lock(queue, fcntl.LOCK_EX) or self._taken() + wanted > usable:  # who waits holds the queue
                if time.monotonic() > deadline:
                    raise Rejected(Status.NOT_MEASURED, "other evaluations on this machine have held the device's memory for 15 minutes")
                time.sleep(_POLL_S)
            handle, path = tempfile.mkstemp(prefix="held-", dir=self._directory)
            self._held = os.fdopen(handle, "w+")
            self._path = Path(path)
            try_lock(self._held, fcntl.LOCK_EX)
            self._write(wanted)

    def has_neighbours(self) -> bool:
        """True if somebody else has reserved memory, or waits for it."""
        self._directory.mkdir(mode=0o700, exist_ok=True)
        if self._taken() > self.reserved_bytes:
            return True
        with (self._directory / "queue").open("a") as queue:
            return not try_lock(queue, fcntl.LOCK_EX)

    def release(self) -> None:
        """Give the reservation back; harmless where there is none."""
        if self._held is not None:
            self._path.unlink(missing_ok=True)
            self._held.close()
            self._held = None
        self.reserved_bytes = 0

    def __enter__(self) -> Residence:
        return self

    def __exit__(self, *exc: object) -> None:
        self.release()

    def _write(self, num_bytes: int) -> None:
        if self._held is not None:
            self._held.seek(0)
            self._held.write(f"{num_bytes:020d}")
            self._held.flush()
            self.reserved_bytes = num_bytes

    def _taken(self) -> int:
        """Return the bytes that others have reserved, and clear away what ended processes left."""
        total = 0
        for path in self._directory.glob("held-*"):
            with contextlib.suppress(OSError, ValueError), path.open() as file:
                if try_lock(file, fcntl.LOCK_EX):
                    path.unlink(missing_ok=True)
                else:
                    total += int(file.read())
        return total


@contextlib.contextmanager
def residence(device: str, accelerator: str) -> Iterator[Residence | None]:
    """Yield a residence on an accelerator; None on `cpu`, whose memory is asked for otherwise."""
    if device == "cpu":
        yield None
        return
    with Residence(accelerator) as made:
        yield made
