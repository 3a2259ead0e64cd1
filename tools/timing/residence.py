"""Whose memory may be on an accelerator: evaluations beside each other reserve what they will need, and wait until it is there.

A reservation is a file whose lock ends with its process; its content is the number of bytes. Who asks holds a ticket, another such file, whose name tells since when.
What fits is given at once, also before those that came earlier and need more, until one of them has waited long: then all wait for that one.
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
_PATIENCE_S = 45.0
"""So long may others be served before one that came earlier; an evaluation holds its memory for about half as long."""
_USABLE = 0.92
"""Share of the device's memory that is shared out; contexts of processes and what others hold take the rest."""


class Residence:
    """Memory of one evaluation on an accelerator, as far as evaluations of this user on this machine agree on it."""

    def __init__(self, accelerator: str) -> None:
        """Take note of the device; empty: what `CUDA_VISIBLE_DEVICES` says. Nothing is reserved yet."""
        self._directory = lock_path("memory", accelerator)
        self._held: IO[str] | None = None
        self._path = Path()
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
        ticket, path = self._lock_new(f"ticket-{time.monotonic_ns():020d}-")
        try:
            while not self._takes(wanted, usable, path):
                if time.monotonic() > deadline:
                    raise Rejected(Status.NOT_MEASURED, "other evaluations on this machine have held the device's memory for 15 minutes")
                time.sleep(_POLL_S)
        finally:
            path.unlink(missing_ok=True)
            ticket.close()

    def has_neighbours(self) -> bool:
        """True if somebody else has reserved memory, or waits for it."""
        self._directory.mkdir(mode=0o700, exist_ok=True)
        return self._taken() > self.reserved_bytes or bool(self._alive("ticket-*"))

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

    def _takes(self, wanted: int, usable: int, ticket: Path) -> bool:
        """Take the memory if it is there and nobody who came earlier has waited too long for it; two who look at once look again."""
        with (self._directory / "queue").open("a") as queue:
            if not try_lock(queue, fcntl.LOCK_EX):
                return False
            eldest = min(self._alive("ticket-*"), key=lambda path: path.name, default=ticket)
            waited_s = (time.monotonic_ns() - int(eldest.name.split("-")[1])) * 1e-9
            if (eldest != ticket and waited_s > _PATIENCE_S) or self._taken() + wanted > usable:
                return False
            self._held, self._path = self._lock_new("held-")
            self._write(wanted)
            return True

    def _lock_new(self, prefix: str) -> tuple[IO[str], Path]:
        """Return a new file and where it is; locked before it has its name, so that nobody takes it for one that an ended process left."""
        handle, path = tempfile.mkstemp(prefix=".", dir=self._directory)
        file = os.fdopen(handle, "w+")
        try_lock(file, fcntl.LOCK_EX)
        named = self._directory / f"{prefix}{Path(path).name.lstrip('.')}"
        Path(path).rename(named)
        return file, named

    def _alive(self, pattern: str) -> dict[Path, str]:
        """Return the files of living processes with what they say, and clear away what ended ones left."""
        found = {}
        for path in self._directory.glob(pattern):
            with contextlib.suppress(OSError), path.open() as file:
                if try_lock(file, fcntl.LOCK_EX):
                    path.unlink(missing_ok=True)
                else:
                    found[path] = file.read()
        return found

    def _taken(self) -> int:
        """Return the bytes that are reserved."""
        return sum(int(text) for text in self._alive("held-*").values() if text)


@contextlib.contextmanager
def residence(device: str, accelerator: str) -> Iterator[Residence | None]:
    """Yield a residence on an accelerator; None on `cpu`, whose memory is asked for otherwise."""
    if device == "cpu":
        yield None
        return
    with Residence(accelerator) as made:
        yield made
