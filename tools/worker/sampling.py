"""Where a stopped process was executing, as the kernel says: nothing that the process does to itself can change the answer. Linux only.

`/proc/PID/task/TID/syscall` of a thread that was stopped outside a system call holds its instruction pointer (Documentation/filesystems/proc.rst); its mappings say
which file that belongs to.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from pathlib import Path

_STOP_S = 0.1
_POLL_S = 0.0003


class Whereabouts:
    """Looks at stopped processes again and again."""

    def __init__(self) -> None:
        self._mapped: dict[int, list[tuple[int, int, str]]] = {}

    def look(self, pids: Sequence[int]) -> list[str]:
        """Return the file that each executing thread was in, `""` for memory of no file; threads that wait in the kernel are left out."""
        found = []
        for pid in pids:
            if not _has_stopped(pid):
                continue
            for pointer in _instruction_pointers(pid):
                path = self._file_at(pid, pointer)
                if path is not None:
                    found.append(path)
        return found

    def _file_at(self, pid: int, pointer: int) -> str | None:
        for is_second in (False, True):
            if is_second or pid not in self._mapped:
                self._mapped[pid] = _executable_mappings(pid)
            for low, high, path in self._mapped[pid]:
                if low <= pointer < high:
                    return path
        return None


def _has_stopped(pid: int) -> bool:
    """Wait until the stop signal has arrived; a process that waits for a processor takes it late."""
    deadline = time.monotonic() + _STOP_S
    while time.monotonic() < deadline:
        try:
            state = Path("/proc", str(pid), "stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()[0]
        except (OSError, IndexError):
            return False
        if state == "T":
            return True
        time.sleep(_POLL_S)
    return False


def _instruction_pointers(pid: int) -> list[int]:
    found = []
    with contextlib.suppress(OSError):
        for task in Path("/proc", str(pid), "task").iterdir():
            with contextlib.suppress(OSError, ValueError, IndexError):
                words = (task / "syscall").read_text(encoding="ascii").split()
                if words[0] == "-1":
                    found.append(int(words[2], 16))
    return found


def _executable_mappings(pid: int) -> list[tuple[int, int, str]]:
    found = []
    with contextlib.suppress(OSError):
        for line in Path("/proc", str(pid), "maps").read_text(encoding="utf-8", errors="replace").splitlines():
            fields = line.split(None, 5)
            if "x" in fields[1]:
                low, high = (int(part, 16) for part in fields[0].split("-"))
                found.append((low, high, fields[5] if len(fields) > 5 else ""))
    return found
