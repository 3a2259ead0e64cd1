"""Where compiled code is kept: in the state directory, unless compilers cannot be given its path."""

from __future__ import annotations

import hashlib
import os
import re
import stat
import tempfile
from pathlib import Path

from tools.errors import MachineError

_BREAKS_COMMANDS = re.compile(r"[\s'\"\\$`&;|<>()*?\[\]{}!#]")
"""PyTorch writes the compiler's command as one string of unquoted paths (seen in 2.11 and 2.13)."""


def cache_directory(home: Path) -> Path:
    """Return `home/cache`; where that path has blanks or quotes, a directory of this user's below the temporary one, named after the home. It exists afterwards.

    Raises:
        MachineError: The directory for temporary files has such a path too, or somebody else's directory has the name.
        OSError: It cannot be created.
    """
    path = home / "cache"
    if not _BREAKS_COMMANDS.search(str(path)):
        path.mkdir(parents=True, exist_ok=True)
        return path
    name = f"kevolve-cache-{os.getuid()}-{hashlib.sha256(str(home).encode()).hexdigest()[:12]}"
    path = Path(tempfile.gettempdir()).resolve() / name
    if _BREAKS_COMMANDS.search(str(path)):
        raise MachineError(
            f"compilers cannot be given the paths {str(home)!r} and {str(path)!r}; choose a --home without blanks and quotes"
        )
    path.mkdir(mode=0o700, exist_ok=True)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise MachineError(f"{path} is not a directory of this user; remove it, or choose a --home without blanks and quotes")
    return path
