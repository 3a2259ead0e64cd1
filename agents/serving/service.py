"""`kevolve serve`: evaluations for other machines over HTTP. Jobs lie in a queue that outlives the process; a pool of evaluators works it off."""

from __future__ import annotations

import contextlib
import json
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any

import anyio.to_thread

from agents.errors import OptionError
from agents.serving.jobs import MAX_ATTEMPTS, Job, JobQueue, QueueFullError
from agents.serving.wire import Request, packed
from kb.server.run import address_of, bind
from kb.server.security import Access, Guard
from tools.errors import ProblemError, ToolsError, UnknownTargetError
from tools.targets.registry import get_target, known_targets

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request as HttpRequest
    from starlette.responses import JSONResponse, StreamingResponse

    from agents.serving.pool import EvaluatorPool

log = logging.getLogger(__name__)
TOKEN_VARIABLE = "KEVOLVE_SERVICE_TOKEN"
DEFAULT_PORT = 8378
LONGEST_WAIT_S = 30.0
_RETRY_AFTER_S = 5
_MOST_WAITING = 256
"""Requests that wait for a job at the same time, each in a thread."""
_OVER = ("done", "failed", "cancelled")


class Workers:
    """Threads that take jobs from the queue and give them to the pool. A context manager: leaving waits for running evaluations."""

    def __init__(self, queue: JobQueue, pool: EvaluatorPool) -> None:
        self._queue = queue
        self._pool = pool
        self._ending = threading.Event()
        self._threads = [threading.Thread(target=self._work, name=f"evaluations-{number}", daemon=True) for number in range(pool.num_slots)]

    def __enter__(self) -> Workers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._ending.set()
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while not self._ending.is_set():
            job = self._queue.take(timeout_s=0.5)
            if job is not None:
                answer, failed = self._evaluate(job)
                self._queue.finish(job.job_id, answer, failed=failed)

    def _evaluate(self, job: Job) -> tuple[dict[str, Any], bool]:  # Any: JSON
        if job.attempts > MAX_ATTEMPTS:
            return {"kind": "MachineError", "error": f"this evaluation ended the service {MAX_ATTEMPTS} times"}, True
        try:
            asked = Request.from_json(job.request)
            return packed(self._pool.evaluate(asked.candidate, asked.problem, asked.target, asked.effort, seed=asked.seed)), False
        except (ToolsError, OptionError) as err:
            return {"kind": type(err).__name__, "error": str(err)}, True
        except Exception as err:  # a bug of ours must neither end the thread nor be taken for the candidate's fault
            log.exception("evaluation %s failed", job.job_id)
            return {"kind": "HarnessError", "error": f"{type(err).__name__}: {err}"}, True


def make_app(queue: JobQueue, pool: EvaluatorPool, access: Access) -> Starlette:
    """Return the application; it works jobs off while it is running.

    Args:
        queue: Open; the caller closes it.
        pool: Evaluators; the caller closes them.
        access: Who may talk to it.
    """
    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from starlette.routing import Route

    handlers = _Handlers(queue, pool)

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        with Workers(queue, pool):
            yield

    routes = [
        Route("/health", handlers.health),
        Route("/v1/targets", handlers.targets),
        Route("/v1/jobs", handlers.submit, methods=["POST"]),
        Route("/v1/jobs/{job_id}", handlers.job, methods=["GET"]),
        Route("/v1/jobs/{job_id}", handlers.cancel, methods=["DELETE"]),
        Route("/v1/jobs/{job_id}/events", handlers.events),
    ]
    return Starlette(routes=routes, lifespan=lifespan, middleware=[Middleware(Guard, access=access)])


def run_app(app: Starlette, host: str, port: int, on_ready: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM; what is being evaluated then waits again when the service comes back.

    Raises:
        StoreError: The address cannot be listened on.
    """
    import uvicorn

    with bind(host, port) as listener:
        listener.listen(256)  # from here on requests wait instead of being refused
        on_ready(address_of(listener))
        config = uvicorn.Config(app, log_config=None, access_log=False, server_header=False, timeout_graceful_shutdown=5, lifespan="on")
        uvicorn.Server(config).run(sockets=[listener])


class _Handlers:
    """The routes."""

    def __init__(self, queue: JobQueue, pool: EvaluatorPool) -> None:
        self._queue = queue
        self._pool = pool
        self._waiting = anyio.CapacityLimiter(_MOST_WAITING)  # of their own, so that many who wait keep nobody from handing in

    async def health(self, request: HttpRequest) -> JSONResponse:
        return _json({"status": "ok", "slots": self._pool.num_slots, "jobs": self._queue.counts()})

    async def targets(self, request: HttpRequest) -> JSONResponse:
        infos = [get_target(name).describe() for name in known_targets()]
        return _json({"targets": [{"name": info.name, "evidence": info.evidence.value, "summary": info.summary} for info in infos]})

    async def submit(self, request: HttpRequest) -> JSONResponse:
        try:
            body = json.loads(await request.body())
            asked = Request.from_json(body.get("request") if isinstance(body, dict) else None)
            key = str(body.get("key", ""))[:200]
        except (ValueError, OptionError, RecursionError) as err:
            return _refusal(400, "OptionError", str(err))
        try:
            job_id, is_new = await anyio.to_thread.run_sync(self._queue.submit, asked.to_json(), key)
        except QueueFullError as err:
            return _refusal(429, "QueueFullError", str(err), {"Retry-After": str(_RETRY_AFTER_S)})
        return _json({"job_id": job_id}, 202 if is_new else 200)

    async def job(self, request: HttpRequest) -> JSONResponse:
        try:
            wait_s = float(request.query_params.get("wait", "0") or 0)
        except ValueError:
            return _refusal(400, "OptionError", "wait must be a number of seconds")
        wait_s = wait_s if 0 <= wait_s <= LONGEST_WAIT_S else LONGEST_WAIT_S if wait_s > 0 else 0.0  # not a number: no wait
        job = await anyio.to_thread.run_sync(
            self._wait, request.path_params["job_id"], None, wait_s, abandon_on_cancel=True, limiter=self._waiting
        )
        return _json(self._shown(job)) if job else _unknown()

    async def cancel(self, request: HttpRequest) -> JSONResponse:
        job_id = request.path_params["job_id"]
        if self._queue.get(job_id) is None:
            return _unknown()
        if self._queue.cancel(job_id):
            return _json({"job_id": job_id, "state": "cancelled"})
        return _refusal(409, "OptionError", "the job does not wait any more; what is running or done is not cancelled")

    async def events(self, request: HttpRequest) -> StreamingResponse | JSONResponse:
        from starlette.responses import StreamingResponse

        job_id = request.path_params["job_id"]
        if self._queue.get(job_id) is None:
            return _unknown()

        async def stream() -> AsyncIterator[str]:
            seen = ""
            while True:
                job = await anyio.to_thread.run_sync(self._wait, job_id, seen, 15.0, abandon_on_cancel=True, limiter=self._waiting)
                if job is None:
                    return
                state = self._state(job)
                if state == seen:
                    yield ": still there\n\n"
                    continue
                seen = state
                yield f"event: {job.state}\ndata: {json.dumps(self._shown(job))}\n\n"
                if job.state in _OVER:
                    return

        return StreamingResponse(stream(), media_type="text/event-stream", headers={"Cache-Control": "no-store"})

    def _wait(self, job_id: str, seen: str | None, timeout_s: float) -> Job | None:
        """Return the job once it is over, or once its state is not `seen` (None: only the end counts), at the latest after the time."""
        deadline = time.monotonic() + timeout_s
        while True:
            job = self._queue.get(job_id)
            left = deadline - time.monotonic()
            if job is None or job.state in _OVER or left <= 0 or (seen is not None and self._state(job) != seen):
                return job
            self._queue.wait_for_change(min(1.0, left))

    def _state(self, job: Job) -> str:
        return f"queued {self._queue.position(job.job_id)}" if job.state == "queued" else job.state

    def _shown(self, job: Job) -> dict[str, Any]:  # Any: JSON
        shown: dict[str, Any] = {"job_id": job.job_id, "state": job.state, "attempts": job.attempts}
        if job.state == "queued":
            shown["position"] = self._queue.position(job.job_id)
        return {**shown, "answer": job.answer} if job.answer is not None else shown


ERRORS: dict[str, type[Exception]] = {kind.__name__: kind for kind in (ProblemError, UnknownTargetError, OptionError)}
"""Failures of a request that a client raises again; anything else is a fault of the service's machine."""


def _json(data: Any, status: int = 200, headers: dict[str, str] | None = None) -> JSONResponse:  # Any: JSON
    from starlette.responses import JSONResponse

    return JSONResponse(data, status_code=status, headers=headers)


def _refusal(status: int, kind: str, message: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return _json({"error": {"type": kind, "message": message}}, status, headers)


def _unknown() -> JSONResponse:
    return _refusal(404, "UnknownJob", "there is no job of this id here")
