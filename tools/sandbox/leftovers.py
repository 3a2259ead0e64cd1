"""What a candidate left on disk, handled by processes that are not confined: it may be a link, a pipe or a tree without end, and must cost no more than a file does."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import subprocess
from pathlib import Path


def read_tail(path: Path, limit: int) -> bytes:
    """Return the last `limit` bytes of a regular file; nothing for links, pipes, devices and what cannot be read."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return b""
    with contextlib.suppress(OSError), os.fdopen(fd, "rb") as file:
        status = os.fstat(fd)
        if stat.S_ISREG(status.st_mode):
            file.seek(max(0, status.st_size - limit))
            return file.read(limit)
    return b""


def remove_tree(path: Path) -> None:
    """Remove a directory with all that is below it, however deep; what cannot be removed stays."""
    try:
        shutil.rmtree(path, ignore_errors=True)
    except RecursionError:  # Python's own goes down by calling itself
        subprocess.run(["rm", "-rf", "--", str(path)], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
