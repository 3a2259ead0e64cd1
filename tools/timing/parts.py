"""Where the time of an evaluation goes."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator


@contextlib.contextmanager
def part(parts_s: dict[str, float], name: str) -> Iterator[None]:
    """Add the wall time of the context to `parts_s[name]`, in s; also where it ends with an exception."""
    began = time.monotonic()
    try:
        yield
    finally:
        parts_s[name] = parts_s.get(name, 0.0) + time.monotonic() - began
