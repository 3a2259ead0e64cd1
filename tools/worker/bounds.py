"""What a candidate's processes may take together, seen by the warm process that forked them. Limits that the kernel keeps hold for one process each, or spare root.

Looked at ten times a second, so that more may be there for a moment: a bound of this kind protects the machine and whoever is measured next, and is no measurement.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

MOST_PROCESSES = 32 + 4 * len(os.sched_getaffinity(0))
"""A build takes up to four for each core (ninja, a shell, a compiler and its parts), a kernel none. Each copy of a candidate's process takes 30 to 60 ms of a core to make,
and as long to end: there may be as many as can be ended within a second or two."""
MOST_THREADS = 8192
"""CUDA, OpenMP and compilers take a few hundred."""
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Usage:
    """What some processes and everything that they started take at a moment."""

    processes: int = 0
    threads: int = 0
    resident_bytes: int = 0
    """Memory beyond what each shares with the warm process; what several of them share with each other counts for each."""


def usage(roots: Iterable[int], shared_bytes: int) -> Usage:
    """Return what the trees of some processes take; `shared_bytes`: resident memory that each has from the warm process."""
    seen: set[int] = set()
    threads, resident = 0, 0
    stack = list(roots)
    while stack and len(seen) <= MOST_PROCESSES and threads <= MOST_THREADS:  # more makes no difference, and would take long to count
        pid = stack.pop()
        if pid in seen:
            continue
        seen.add(pid)
        with contextlib.suppress(OSError):
            for task in Path("/proc", str(pid), "task").iterdir():
                threads += 1
                with contextlib.suppress(OSError, ValueError):
                    stack.extend(int(child) for child in (task / "children").read_text().split())
        resident += max(0, resident_bytes(pid) - shared_bytes)
    return Usage(len(seen), threads, resident)


def resident_bytes(pid: int) -> int:
    """Return the resident memory of a process that no file and no other mapping of it holds, such as the inputs that were handed over; 0 if it is gone.

    Second less third field of proc_pid_statm(5).
    """
    with contextlib.suppress(OSError, ValueError, IndexError):
        _, resident, shared, *_ = Path("/proc", str(pid), "statm").read_text().split()
        return (int(resident) - int(shared)) * _PAGE_BYTES
    return 0


def excess(found: Usage, allowance_bytes: int | None) -> str:
    """Return what is too much, in words; empty if nothing is. `allowance_bytes`: what the machine had left; None: unknown, and so unlimited."""
    if found.processes > MOST_PROCESSES:
        return f"more than {MOST_PROCESSES} processes"
    if found.threads > MOST_THREADS:
        return f"more than {MOST_THREADS} threads"
    if allowance_bytes is not None and found.resident_bytes > allowance_bytes:
        return f"{found.resident_bytes / 2**30:.1f} GiB of memory, more than the {allowance_bytes / 2**30:.1f} GiB that the machine could spare"
    return ""


def is_memory(reason: str) -> bool:
    """True if what `excess` complained about is memory."""
    return "of memory" in reason
