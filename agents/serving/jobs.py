"""A queue of evaluations in one SQLite file: what was accepted is never lost and never scored twice, whatever ends the process."""

from __future__ import annotations

import contextlib
import hashlib
import json
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agents.errors import RunStoreError

SCHEMA = 1
MAX_ATTEMPTS = 3
"""A job whose evaluation took the whole service down this often is given up."""
_TABLES = """
CREATE TABLE IF NOT EXISTS jobs (
  number INTEGER PRIMARY KEY, job_id TEXT NOT NULL UNIQUE, request TEXT NOT NULL, state TEXT NOT NULL, attempts INTEGER NOT NULL DEFAULT 0,
  answer TEXT, accepted REAL NOT NULL, finished REAL
);
CREATE INDEX IF NOT EXISTS jobs_by_state ON jobs (state, number);
"""


class QueueFullError(RunStoreError):
    """The queue holds as many waiting jobs as it may."""


@dataclass(frozen=True)
class Job:
    """One accepted evaluation."""

    job_id: str
    state: str
    """`queued`, `running`, `done`, `failed` or `cancelled`."""
    request: Mapping[str, Any]  # Any: JSON
    attempts: int
    answer: Mapping[str, Any] | None  # Any: JSON
    """`{evaluation, receipt}` if done, `{error, kind}` if failed."""


class JobQueue:
    """The queue. Thread-safe; one process at a time owns a file."""

    def __init__(self, path: Path, *, limit: int = 10_000) -> None:
        """Open or create the file; jobs that were running when the last owner ended wait again.

        Args:
            path: The file.
            limit: Jobs that may wait.

        Raises:
            RunStoreError: The file cannot be used.
        """
        self._limit = limit
        self._changed = threading.Condition()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=30)
            self._database.execute("PRAGMA journal_mode=WAL")
            self._database.execute("PRAGMA synchronous=FULL")
            (version,) = self._database.execute("PRAGMA user_version").fetchone()
            if version not in (0, SCHEMA):
                raise RunStoreError(f"{path} was written by another version (schema {version}, this one reads {SCHEMA})")
            self._database.executescript(_TABLES)
            self._database.execute(f"PRAGMA user_version={SCHEMA}")
            with self._transaction():
                self._database.execute("UPDATE jobs SET state = 'queued' WHERE state = 'running'")
        except (sqlite3.Error, OSError) as err:
            raise RunStoreError(f"the job queue {path} cannot be used: {err}") from err

    def close(self) -> None:
        """Close the file."""
        with self._changed:
            self._database.close()
            self._changed.notify_all()

    def submit(self, request: Mapping[str, Any], key: str = "") -> tuple[str, bool]:  # Any: JSON
        """Accept a job; return its id, and False if it was accepted before under the same key.

        Args:
            request: What to evaluate (`agents.serving.wire.Request.to_json`).
            key: Names the submission; a client that repeats it after a lost answer gets the same job. Default: every submission is new.

        Raises:
            QueueFullError: Too many jobs wait.
        """
        text = json.dumps(request, sort_keys=True)
        seed = json.dumps([key, text]) if key else json.dumps([time.time_ns(), text])
        job_id = hashlib.sha256(seed.encode()).hexdigest()[:20]
        with self._transaction():
            if self._database.execute("SELECT 1 FROM jobs WHERE job_id = ?", (job_id,)).fetchone():
                return job_id, False
            (waiting,) = self._database.execute("SELECT COUNT(*) FROM jobs WHERE state = 'queued'").fetchone()
            if waiting >= self._limit:
                raise QueueFullError(f"{waiting} jobs wait already; try again later")
            self._database.execute(
                "INSERT INTO jobs (job_id, request, state, accepted) VALUES (?, ?, 'queued', ?)", (job_id, text, time.time())
            )
        return job_id, True

    def take(self, timeout_s: float) -> Job | None:
        """Mark the job that waits longest as running and return it; None if none came within the time."""
        deadline = time.monotonic() + timeout_s
        while True:
            with self._transaction():
                row = self._database.execute("SELECT job_id FROM jobs WHERE state = 'queued' ORDER BY number LIMIT 1").fetchone()
                if row:
                    self._database.execute("UPDATE jobs SET state = 'running', attempts = attempts + 1 WHERE job_id = ?", row)
            if row:
                return self.get(row[0])
            with self._changed:
                left = deadline - time.monotonic()
                if left <= 0:
                    return None
                self._changed.wait(min(left, 0.5))

    def finish(self, job_id: str, answer: Mapping[str, Any], *, failed: bool = False) -> bool:  # Any: JSON
        """Keep a running job's answer; False if it has one already, or was cancelled: an answer is never replaced."""
        with self._transaction():
            changed = self._database.execute(
                "UPDATE jobs SET state = ?, answer = ?, finished = ? WHERE job_id = ? AND state = 'running'",
                ("failed" if failed else "done", json.dumps(answer), time.time(), job_id),
            ).rowcount
        return changed == 1

    def cancel(self, job_id: str) -> bool:
        """Cancel a job that still waits; False if it does not."""
        with self._transaction():
            changed = self._database.execute(
                "UPDATE jobs SET state = 'cancelled' WHERE job_id = ? AND state = 'queued'", (job_id,)
            ).rowcount
        return changed == 1

    def get(self, job_id: str) -> Job | None:
        """Return a job; None if there is none of this id."""
        with self._changed:
            row = self._database.execute("SELECT state, request, attempts, answer FROM jobs WHERE job_id = ?", (job_id,)).fetchone()
        return Job(job_id, row[0], json.loads(row[1]), row[2], json.loads(row[3]) if row[3] else None) if row else None

    def position(self, job_id: str) -> int:
        """Return how many waiting jobs are before this one."""
        with self._changed:
            query = "SELECT COUNT(*) FROM jobs WHERE state = 'queued' AND number < (SELECT number FROM jobs WHERE job_id = ?)"
            return int(self._database.execute(query, (job_id,)).fetchone()[0])

    def counts(self) -> dict[str, int]:
        """Return the number of jobs in each state."""
        with self._changed:
            return {state: int(count) for state, count in self._database.execute("SELECT state, COUNT(*) FROM jobs GROUP BY state")}

    def wait_for_change(self, timeout_s: float) -> None:
        """Return when some job changed, or after the time."""
        with self._changed:
            self._changed.wait(timeout_s)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._changed:
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._database.execute("ROLLBACK")
                raise
            self._database.execute("COMMIT")
            self._changed.notify_all()
