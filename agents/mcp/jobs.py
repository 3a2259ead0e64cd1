"""Work that takes longer than a call: started, waited for, asked about. Jobs live as long as the server."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from agents.mcp.errors import CallError, is_expected
from agents.mcp.limits import waited

MAX_WAITING = 40
"""Jobs that may wait or run at the same time."""
MAX_KEPT = 400
"""Ended jobs whose outcome can still be asked for."""
_REPORT_EVERY_S = 2.0

Report = Callable[[float, str], Awaitable[None]]
"""Takes the seconds so far and what the job is doing."""


@dataclass
class Job:
    """One piece of work."""

    job_id: str
    what: str
    started: float
    phase: str = "waiting for its turn"
    task: asyncio.Task[Any] = field(init=False, repr=False)

    def to_json(self) -> dict[str, Any]:  # Any: JSON
        """Return where it stands, with its outcome if it has ended."""
        seconds = round(time.monotonic() - self.started, 1)
        if not self.task.done():
            return {
                "job_id": self.job_id,
                "job": "running",
                "what": self.what,
                "phase": self.phase,
                "seconds": seconds,
                "next": "call `job` with this job_id to wait for the outcome",
            }
        if self.task.cancelled():
            return {"job_id": self.job_id, "job": "cancelled", "what": self.what}
        error = self.task.exception()
        if error is None:
            return {"job_id": self.job_id, "job": "done", **self.task.result()}
        if isinstance(error, Exception) and is_expected(error):
            return {"job_id": self.job_id, "job": "failed", "what": self.what, "reason": str(error)[:4000]}
        raise error


class Jobs:
    """The jobs of a server. Use it from one event loop."""

    def __init__(self) -> None:
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._numbers = itertools.count(1)

    def start(self, what: str, work: Callable[[Job], Awaitable[dict[str, Any]]]) -> Job:  # Any: JSON
        """Start a job.

        Raises:
            CallError: Too many wait already.
        """
        running = [job for job in self._jobs.values() if not job.task.done()]
        if len(running) >= MAX_WAITING:
            raise CallError(f"{len(running)} jobs are waiting already; call `job` on one of them ({running[0].job_id}) and try again then")
        job = Job(f"job-{next(self._numbers)}", what, time.monotonic())
        job.task = asyncio.ensure_future(work(job))
        # An error is told to whoever asks; nobody asking is no reason for a traceback at the end.
        job.task.add_done_callback(lambda task: None if task.cancelled() else task.exception())
        self._jobs[job.job_id] = job
        for job_id in [key for key, item in self._jobs.items() if item.task.done()][:-MAX_KEPT]:
            del self._jobs[job_id]
        return job

    def get(self, job_id: str) -> Job:
        """Return a job.

        Raises:
            CallError: There is none with this id.
        """
        if job_id not in self._jobs:
            raise CallError(f"no job {job_id!r}; known: {', '.join(list(self._jobs)[-8:]) or 'none'}. Jobs end with the server")
        return self._jobs[job_id]

    async def wait(self, job: Job, wait_s: float, report: Report) -> dict[str, Any]:  # Any: JSON
        """Wait for a job, telling its progress meanwhile; return where it stands then. Giving up on the wait leaves the job running."""
        deadline = time.monotonic() + waited(wait_s)
        while not job.task.done() and (left := deadline - time.monotonic()) > 0:
            await report(time.monotonic() - job.started, job.phase)
            await asyncio.wait({job.task}, timeout=min(_REPORT_EVERY_S, left))
        return job.to_json()

    async def close(self) -> None:
        """Cancel what still runs."""
        running = [job.task for job in self._jobs.values() if not job.task.done()]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
