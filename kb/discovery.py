"""How commands find the server of a home: a small file that the server writes and removes, readable by its user only."""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

FILE = "server.json"


@dataclass(frozen=True)
class ServerRecord:
    """A running server as it announces itself."""

    pid: int
    url: str
    """Address on this machine, for example `http://127.0.0.1:8377`."""
    token_file: str
    """Path of the file that holds its token; empty: none, or one from the environment."""
    code: str
    """Stamp of the program's files; commands of another version do not use the server."""
    catalogue: str
    """Which catalogue it serves: a path or an address without password."""


def announce(folder: Path, record: ServerRecord) -> Path:
    """Write the file (mode 0600, at once); return its path."""
    path = folder / FILE
    temporary = folder / f".{FILE}.{record.pid}"
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as stream:  # noqa: PTH123  # mode at creation
        json.dump(asdict(record), stream)
    temporary.replace(path)
    return path


def withdraw(folder: Path, pid: int) -> None:
    """Remove the file if it is the one of this process."""
    found = _read(folder)
    if found is not None and found.pid == pid:
        with contextlib.suppress(FileNotFoundError):
            (folder / FILE).unlink()


def running(folder: Path) -> ServerRecord | None:
    """Return the record of a server whose process lives, or None."""
    found = _read(folder)
    if found is None:
        return None
    try:
        os.kill(found.pid, 0)
    except OSError:  # gone, or of another user
        return None
    return found


@cache
def code_stamp() -> str:
    """Return a stamp that changes with the files of this package."""
    stats = [path.stat() for path in sorted(Path(__file__).parent.rglob("*.py"))]
    return f"{len(stats)}-{sum(stat.st_size for stat in stats)}-{max(stat.st_mtime_ns for stat in stats)}"


def _read(folder: Path) -> ServerRecord | None:
    path = folder / FILE
    try:
        if path.stat().st_uid != os.getuid():
            return None
        return ServerRecord(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
