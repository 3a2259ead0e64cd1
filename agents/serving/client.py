"""The far evaluator: the same `evaluate`, measured by a service (`kevolve serve`). A lost answer or a restarted service costs time and nothing else."""

from __future__ import annotations

import os
import time
import uuid
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from agents.errors import OptionError
from agents.serving.service import ERRORS, TOKEN_VARIABLE
from agents.serving.wire import Request, kept_receipt
from tools.errors import MachineError
from tools.types import QUICK, Candidate, Effort, Evaluation, Problem

_LONG_POLL_S = 20.0
_BACKOFF_S = (0.2, 0.5, 1.0, 2.0, 5.0)


class RemoteEvaluator:
    """Evaluates at a service. Thread-safe; a context manager.

    Args:
        url: Of the service, for example `http://gpu-host:8378`.
        home: State directory of this side; receipts are kept below it.
        token: What the service wants; default: the environment variable KEVOLVE_SERVICE_TOKEN.
        patience_s: How long a service that does not answer is waited for.

    Raises:
        OptionError: The URL is none.
    """

    def __init__(self, url: str, home: Path, *, token: str = "", patience_s: float = 300.0) -> None:
        import httpx

        if not url.startswith(("http://", "https://")):
            raise OptionError(f"not the URL of a service: {url!r}; give http://HOST:PORT")
        token = token or os.environ.get(TOKEN_VARIABLE, "")
        self._home = home
        self._patience_s = patience_s
        self._client = httpx.Client(
            base_url=url,
            headers={"Authorization": f"Bearer {token}"} if token else {},
            timeout=httpx.Timeout(_LONG_POLL_S + 20, connect=10),
        )

    def evaluate(self, candidate: Candidate, problem: Problem, target: str, effort: Effort = QUICK, *, seed: int = 0) -> Evaluation:
        """Return what became of the candidate, with the service's receipt kept here.

        Raises:
            ProblemError: The problem cannot be used.
            UnknownTargetError: The service has no such target.
            OptionError: The service refuses the request or the token.
            MachineError: The service is away for longer than the patience, or failed.
        """
        body = {"key": uuid.uuid4().hex, "request": Request(candidate, problem, target, effort, seed).to_json()}
        job_id = self._ask("POST", "/v1/jobs", json=body)["job_id"]
        while True:
            job = self._ask("GET", f"/v1/jobs/{job_id}", params={"wait": _LONG_POLL_S}, again=("/v1/jobs", body))
            if job["state"] == "done":
                return kept_receipt(job["answer"], self._home)
            if job["state"] == "failed":
                raise ERRORS.get(job["answer"]["kind"], MachineError)(job["answer"]["error"])
            if job["state"] == "cancelled":
                raise MachineError(f"the job {job_id} was cancelled at the service")

    def evidence(self, target: str) -> str:
        """Return what evidence the service can give for a target (`measured`, …); empty if it does not know it."""
        return next((item["evidence"] for item in self._ask("GET", "/v1/targets")["targets"] if item["name"] == target), "")

    def close(self) -> None:
        """Close the connections. Safe to call twice."""
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _ask(
        self, method: str, path: str, again: tuple[str, Any] | None = None, **options: Any
    ) -> dict[str, Any]:  # Any: JSON, httpx options
        import httpx

        deadline, attempt = time.monotonic() + self._patience_s, 0
        while True:
            try:
                response = self._client.request(method, path, **options)
            except httpx.TransportError as err:
                if time.monotonic() > deadline:
                    raise MachineError(f"the evaluation service at {self._client.base_url} does not answer: {err}") from err
                time.sleep(_BACKOFF_S[min(attempt, len(_BACKOFF_S) - 1)])
                attempt += 1
                continue
            if response.status_code == 429 and time.monotonic() <= deadline:
                time.sleep(float(response.headers.get("Retry-After", "5")))
                continue
            if (
                response.status_code == 404 and again is not None
            ):  # a service with a new queue: hand the job in once more, under the same key
                self._ask("POST", again[0], json=again[1])
                again = None
                continue
            if response.is_success:
                return dict(response.json())
            raise OptionError(f"the evaluation service refuses ({response.status_code}): {_message(response)}")


def _message(response: Any) -> str:  # Any: httpx.Response
    try:
        return str(response.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return str(response.text)[:300]
