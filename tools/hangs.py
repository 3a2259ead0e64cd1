"""Candidates that did not come to an end, by the hash of their source: whoever evaluates beside or after the one who found out need not hang again.

One small file for each in the state directory, so that the members of a pool, a service that was started again and the actors of a host share what they know.
A hang is forgotten after a day: a machine that was too busy condemns nothing for good.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import time
from collections.abc import Callable
from pathlib import Path

KEPT_S = 86_400.0


class Hangs:
    """What hung, and within which time limit.

    Args:
        directory: Where the files lie; made when there is something to keep.
        clock: Seconds since the epoch.
    """

    def __init__(self, directory: Path, clock: Callable[[], float] = time.time) -> None:
        self._directory = directory
        self._clock = clock

    def limit_s(self, candidate_id: str, problem_hash: str, device: str) -> float:
        """Return the longest time limit that a candidate did not keep, 0.0 if nothing is known; what cannot be read says nothing."""
        try:
            found = json.loads(self._path(candidate_id, problem_hash, device).read_text(encoding="utf-8"))
            limit_s, age_s = float(found["limit_s"]), self._clock() - float(found["seen"])
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return 0.0
        return limit_s if math.isfinite(limit_s) and 0.0 <= age_s <= KEPT_S else 0.0

    def remember(self, candidate_id: str, problem_hash: str, device: str, limit_s: float) -> None:
        """Keep that a candidate did not end within a time limit. A state directory that cannot be written forgets it."""
        path = self._path(candidate_id, problem_hash, device)
        known = max(limit_s, self.limit_s(candidate_id, problem_hash, device))
        content = {"candidate_id": candidate_id, "problem_hash": problem_hash, "device": device, "limit_s": known, "seen": self._clock()}
        beside = path.with_name(f"{path.name}.{os.getpid()}.{time.monotonic_ns()}")
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            beside.write_text(json.dumps(content) + "\n", encoding="utf-8")
            beside.replace(path)

    def forget(self) -> None:
        """Forget every hang."""
        with contextlib.suppress(OSError):
            for path in self._directory.iterdir():
                path.unlink(missing_ok=True)

    def _path(self, candidate_id: str, problem_hash: str, device: str) -> Path:
        text = json.dumps([candidate_id, problem_hash, device])
        return self._directory / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.json"
