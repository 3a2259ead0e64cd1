"""How much memory a process of ours may take before the machine itself is in danger."""

from __future__ import annotations

import resource
from pathlib import Path

_RESERVE = 0.1
"""Share of the available memory that is left to everybody else: without it the system's out-of-memory killer chooses whom to end."""


def memory_allowance_bytes(proc: Path = Path("/proc"), cgroup: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Return how many bytes one process may allocate now: nine tenths of what the machine, and the container's limit, have left; None where neither says."""
    found = [value for value in (_available(proc / "meminfo"), _unused(cgroup)) if value is not None]
    return int(min(found) * (1 - _RESERVE)) if found else None


def limit_allocations(num_bytes: int | None) -> None:
    """Let allocations of the calling process and its children fail beyond so many bytes of private memory each; None: no limit.

    What is shared with other processes (files, the evaluator's arenas) does not count, nor do addresses that are only reserved.
    """
    limit(resource.RLIMIT_DATA, num_bytes)


def limit(kind: int, value: int | None) -> None:
    """Lower a resource limit of the calling process for good, never above what it may have; None: leave it."""
    if value is None:
        return
    _, hard = resource.getrlimit(kind)
    bound = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (bound, bound))


def _available(meminfo: Path) -> int | None:
    try:
        lines = meminfo.read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)


def _unused(cgroup: Path) -> int | None:
    """Version 2 of control groups; a limit of `max` is none."""
    try:
        limit, used = ((cgroup / name).read_text().strip() for name in ("memory.max", "memory.current"))
    except OSError:
        return None
    return max(0, int(limit) - int(used)) if limit.isdigit() and used.isdigit() else None
