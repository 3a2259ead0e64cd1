"""File locks by which evaluations of this user on this machine agree on an accelerator; they end with their process."""

from __future__ import annotations

import fcntl
import os
import tempfile
from pathlib import Path
from typing import IO


def lock_path(kind: str, accelerator: str) -> Path:
    """Return where the locks of a kind lie.

    Args:
        kind: What is agreed on.
        accelerator: Which one; empty: what `CUDA_VISIBLE_DEVICES` says here.
    """
    name = (accelerator or os.environ.get("CUDA_VISIBLE_DEVICES", "all")).replace(",", "_").replace("/", "_")
    return Path(tempfile.gettempdir()) / f"kevolve-{kind}-{name}-{os.getuid()}"


def try_lock(file: IO[str], kind: int) -> bool:
    """Take a lock (`fcntl.LOCK_SH` or `LOCK_EX`) on an open file if nobody holds one that is against it; return whether that worked."""
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
