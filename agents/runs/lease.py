"""Who drives a run: the identity of a process, and whether the holder of a lease still lives."""

from __future__ import annotations

import os
import socket
import uuid
from dataclasses import dataclass
from pathlib import Path

STALE_AFTER_S = 60.0
"""A lease whose holder is on another host, and has not been heard of for this long, may be taken over."""


@dataclass(frozen=True)
class Holder:
    """A process that holds, or wants, a lease."""

    owner: str
    """Unique for each attempt to take a lease."""
    host: str
    pid: int
    started: str
    """When the process started, by the system's own clock ticks; tells a reused process id from the original. Empty if unknown."""

    @staticmethod
    def current() -> Holder:
        """Return this process as a new holder."""
        pid = os.getpid()
        return Holder(owner=uuid.uuid4().hex, host=_host(), pid=pid, started=_start_time(pid))


def is_alive(holder: Holder, beat: float, now: float) -> bool:
    """Return whether the holder may still be working.

    On the same host the process table decides; elsewhere the last sign of life (`beat`, seconds since the epoch) may be at most `STALE_AFTER_S` old.
    """
    if holder.host != _host():
        return now - beat < STALE_AFTER_S
    started = _start_time(holder.pid)
    if holder.started or started:
        return bool(started) and started == holder.started
    try:
        os.kill(holder.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _host() -> str:
    boot = Path("/proc/sys/kernel/random/boot_id")
    return f"{socket.gethostname()}/{boot.read_text().strip()[:8]}" if boot.exists() else socket.gethostname()


def _start_time(pid: int) -> str:
    """Field 22 (`starttime`) of /proc/PID/stat, see proc(5); empty for a process that is gone, a zombie, or without procfs."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in ("Z", "X") else fields[19]
