"""One contract for the evaluator near and far: a local pool, a real HTTP service in a process of its own, a real Ray cluster."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import queue as queues
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sources import pointwise_candidate, pointwise_problem

from agents.errors import OptionError, RunStoreError
from agents.serving.client import RemoteEvaluator
from agents.serving.jobs import JobQueue, QueueFullError
from agents.serving.opening import open_evaluator
from agents.serving.pool import EvaluatorPool, local_pool
from agents.serving.service import Workers, make_app
from agents.serving.wire import Request
from evaluation.service_study import TOKEN, running_service
from kb.server.security import Access
from tools.errors import MachineError, ProblemError, UnknownTargetError
from tools.slots import Slot, find_slots
from tools.types import QUICK, Candidate, Effort, Evaluation, Evidence, Problem, Status

PROBLEM = pointwise_problem("torch.tanh(x)", "tanh")


# --- the contract ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["pool", "service", pytest.param("ray", marks=[pytest.mark.slow, pytest.mark.timeout(600)])])
def evaluator(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EvaluatorPool | RemoteEvaluator]:
    home = tmp_path_factory.mktemp(request.param)
    if request.param == "pool":
        with local_pool(home, [Slot()], use_compiled_baseline=False) as pool:
            yield pool
    elif request.param == "service":
        with running_service(home / "there", "--eager-only") as (url, _), RemoteEvaluator(url, home / "here", token=TOKEN) as client:
            yield client
    else:
        ray = pytest.importorskip("ray")
        from agents.serving.ray_pool import ray_pool

        with ray_pool(home, [Slot()], use_compiled_baseline=False) as pool:
            yield pool
        ray.shutdown()


def test_an_honest_candidate_passes_with_an_interval_and_a_receipt_here(evaluator: EvaluatorPool) -> None:
    evaluation = evaluator.evaluate(pointwise_candidate("torch.tanh(x)"), PROBLEM, "cpu", QUICK, seed=3)
    assert (evaluation.status, evaluation.reason) == (Status.PASSED, "") and evaluation.speedup["eager"].low > 0
    receipt = json.loads(Path(evaluation.receipt).read_text(encoding="utf-8"))
    assert receipt["seed"] == 3 and receipt["candidate"]["source"] == pointwise_candidate("torch.tanh(x)").source


def test_a_wrong_candidate_says_where(evaluator: EvaluatorPool) -> None:
    evaluation = evaluator.evaluate(pointwise_candidate("x * 1.0"), PROBLEM, "cpu")
    assert evaluation.status is Status.WRONG_VALUES and "expected" in evaluation.feedback.first_mismatch


def test_a_crash_is_the_candidates_and_the_next_one_is_judged_as_before(evaluator: EvaluatorPool) -> None:
    crash = evaluator.evaluate(pointwise_candidate("__import__('os').kill(__import__('os').getpid(), 11)"), PROBLEM, "cpu")
    assert crash.status is Status.RUNTIME_ERROR
    assert evaluator.evaluate(pointwise_candidate("torch.tanh(x)"), PROBLEM, "cpu").status is Status.PASSED


def test_a_hang_is_ended_and_remembered_and_the_next_one_is_judged_as_before(evaluator: EvaluatorPool) -> None:
    hang, short = pointwise_candidate("[None for _ in iter(int, 1)]"), dataclasses.replace(QUICK, timeout_s=2.0)
    assert evaluator.evaluate(hang, PROBLEM, "cpu", short).status is Status.TIMEOUT
    assert evaluator.evaluate(pointwise_candidate("torch.tanh(x)"), PROBLEM, "cpu").status is Status.PASSED
    again = evaluator.evaluate(hang, PROBLEM, "cpu", short)
    assert again.status is Status.TIMEOUT and "before" in again.reason


def test_misuse_raises_the_same_errors(evaluator: EvaluatorPool) -> None:
    broken = pointwise_problem("undefined", "broken")
    with pytest.raises(ProblemError, match="undefined"):
        evaluator.evaluate(pointwise_candidate("x"), broken, "cpu")
    with pytest.raises(UnknownTargetError, match="abacus"):
        evaluator.evaluate(pointwise_candidate("x"), PROBLEM, "abacus")


# --- the queue -------------------------------------------------------------------------------------------------------------


def test_what_ran_when_the_owner_ended_waits_again_and_is_answered_once(tmp_path: Path) -> None:
    first = JobQueue(tmp_path / "jobs.db")
    ids = [first.submit({"number": number})[0] for number in range(3)]
    taken = first.take(1)
    assert taken is not None and taken.job_id == ids[0] and first.finish(ids[0], {"n": 1})
    assert first.take(1) is not None  # the second one runs when the process "dies": nothing closes the file
    second = JobQueue(tmp_path / "jobs.db")
    assert second.counts() == {"done": 1, "queued": 2}
    again = second.take(1)
    assert again is not None and again.job_id == ids[1] and again.attempts == 2
    assert second.finish(ids[1], {"n": 2}) and not second.finish(ids[1], {"n": 3}) and not first.finish(ids[0], {"n": 4})
    answered = second.get(ids[1])
    assert answered is not None and answered.answer == {"n": 2}


def test_one_key_is_one_job(tmp_path: Path) -> None:
    queue = JobQueue(tmp_path / "jobs.db")
    assert queue.submit({"a": 1}, "key") == (queue.submit({"a": 1}, "key")[0], True) or queue.counts() == {"queued": 1}
    assert queue.counts() == {"queued": 1} and queue.submit({"a": 1}, "other")[1]


def test_a_full_queue_turns_jobs_away_and_keeps_the_accepted(tmp_path: Path) -> None:
    queue = JobQueue(tmp_path / "jobs.db", limit=2)
    queue.submit({"a": 1})
    queue.submit({"a": 2})
    with pytest.raises(QueueFullError, match="2 jobs wait"):
        queue.submit({"a": 3})
    assert queue.counts() == {"queued": 2}


def test_only_a_waiting_job_is_cancelled(tmp_path: Path) -> None:
    queue = JobQueue(tmp_path / "jobs.db")
    first, second = queue.submit({"a": 1})[0], queue.submit({"a": 2})[0]
    assert queue.take(1) is not None
    assert not queue.cancel(first) and queue.cancel(second) and queue.take(0) is None


def test_a_file_of_another_version_is_refused(tmp_path: Path) -> None:
    import sqlite3

    with contextlib.closing(sqlite3.connect(tmp_path / "jobs.db")) as database:
        database.execute("PRAGMA user_version=99")
    with pytest.raises(RunStoreError, match="another version"):
        JobQueue(tmp_path / "jobs.db")


class Counting:
    """An evaluator of no cost that counts what it is asked; the real one is behind the contract above."""

    def __init__(self) -> None:
        self.seen: queues.SimpleQueue[str] = queues.SimpleQueue()

    def evaluate(self, candidate: Candidate, problem: Problem, target: str, effort: Effort = QUICK, *, seed: int = 0) -> Evaluation:
        self.seen.put(candidate.candidate_id)
        return Evaluation(candidate.candidate_id, problem.problem_id, target, Evidence.MEASURED, Status.WRONG_VALUES, reason="counted")

    def close(self) -> None:
        """Nothing is open."""


def test_many_threads_lose_and_double_nothing(tmp_path: Path) -> None:
    queue, counting = JobQueue(tmp_path / "jobs.db"), Counting()
    requests = [Request(pointwise_candidate(f"x + {number}"), PROBLEM, "cpu", QUICK).to_json() for number in range(200)]
    with Workers(queue, EvaluatorPool([counting] * 4)):
        with ThreadPoolExecutor(8) as threads:
            ids = list(threads.map(lambda request: queue.submit(request)[0], requests))
        deadline = time.monotonic() + 60
        while queue.counts().get("done", 0) < 200 and time.monotonic() < deadline:
            queue.wait_for_change(0.2)
    assert len(set(ids)) == 200 and queue.counts() == {"done": 200} and counting.seen.qsize() == 200


def test_a_bug_of_the_evaluator_is_never_the_candidates_failure(tmp_path: Path) -> None:
    class Broken(Counting):
        def evaluate(self, *args: object, **options: object) -> Evaluation:  # type: ignore[override]
            raise RuntimeError("a bug")

    queue = JobQueue(tmp_path / "jobs.db")
    job_id = queue.submit(Request(pointwise_candidate("x"), PROBLEM, "cpu", QUICK).to_json())[0]
    with Workers(queue, EvaluatorPool([Broken()])):
        deadline = time.monotonic() + 60
        while (job := queue.get(job_id)) is not None and job.state != "failed" and time.monotonic() < deadline:
            queue.wait_for_change(0.2)
    assert job is not None and job.answer == {"kind": "HarnessError", "error": "RuntimeError: a bug"}


# --- the service over HTTP -------------------------------------------------------------------------------------------------


@pytest.fixture
def application(tmp_path: Path) -> Iterator[httpx.Client]:
    from starlette.testclient import TestClient

    queue = JobQueue(tmp_path / "jobs.db", limit=3)
    app = make_app(queue, EvaluatorPool([Counting()]), Access("127.0.0.1", TOKEN))
    # Not entered as a context manager: without its lifespan nothing works jobs off, so they stay as they are put.
    client = TestClient(app, base_url="http://127.0.0.1", headers={"Authorization": f"Bearer {TOKEN}"}, raise_server_exceptions=False)
    yield client
    queue.close()


def body(number: int = 0) -> dict[str, object]:
    return {"request": Request(pointwise_candidate(f"x + {number}"), PROBLEM, "cpu", QUICK).to_json(), "key": str(number)}


def test_without_the_token_nothing_is_said(application: httpx.Client) -> None:
    for token in ("", "wrong", TOKEN + "x"):
        assert application.post("/v1/jobs", json=body(), headers={"Authorization": f"Bearer {token}"}).status_code == 401


def test_a_full_service_says_when_to_come_back(application: httpx.Client) -> None:
    answers = [application.post("/v1/jobs", json=body(number)) for number in range(4)]
    assert [answer.status_code for answer in answers] == [202, 202, 202, 429] and answers[3].headers["Retry-After"]
    assert application.post("/v1/jobs", json=body(1)).status_code == 200  # accepted before: the same job


def test_a_waiting_job_shows_its_place_and_can_be_cancelled(application: httpx.Client) -> None:
    ids = [application.post("/v1/jobs", json=body(number)).json()["job_id"] for number in range(2)]
    assert application.get(f"/v1/jobs/{ids[1]}").json() == {"job_id": ids[1], "state": "queued", "attempts": 0, "position": 1}
    assert application.delete(f"/v1/jobs/{ids[1]}").json()["state"] == "cancelled"
    assert application.delete(f"/v1/jobs/{ids[1]}").status_code == 409
    assert application.get("/v1/jobs/none").status_code == 404 == application.delete("/v1/jobs/none").status_code


JSON = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    data=JSON
    | st.fixed_dictionaries({"request": JSON})
    | st.fixed_dictionaries({"request": st.fixed_dictionaries({"candidate": JSON, "problem": JSON, "target": JSON, "effort": JSON})})
)
def test_no_body_crashes_the_service(application: httpx.Client, data: object) -> None:
    assert application.post("/v1/jobs", json=data).status_code == 400


@pytest.mark.parametrize("wait", ["nan", "inf", "-1", "1e999", "-inf", "soon"])
def test_a_wait_that_is_no_time_ends(application: httpx.Client, wait: str) -> None:
    application.post("/v1/jobs", json=body())
    job_id = application.post("/v1/jobs", json=body()).json()["job_id"]
    application.delete(f"/v1/jobs/{job_id}")
    assert application.get(f"/v1/jobs/{job_id}", params={"wait": wait}).status_code == (400 if wait == "soon" else 200)


@pytest.mark.parametrize(
    "wrong", [{"timeout_s": 1e12}, {"timeout_s": float("inf")}, {"value_seeds": 10**9}, {"value_seeds": 1.5}, {"pairs": True}, {"name": 5}]
)
def test_an_effort_without_bounds_is_refused(wrong: dict[str, object]) -> None:
    asked = Request(pointwise_candidate("x"), PROBLEM, "cpu", QUICK).to_json()
    with pytest.raises(OptionError):
        Request.from_json({**asked, "effort": {**asked["effort"], **wrong}})


def test_a_request_survives_the_wire() -> None:
    asked = Request(
        Candidate("import torch", build_options={"O": "3"}, provenance={"from": ["a"]}),
        PROBLEM,
        "cpu",
        dataclasses.replace(QUICK, pairs=7),
        4,
    )
    assert Request.from_json(json.loads(json.dumps(asked.to_json()))) == dataclasses.replace(
        asked, problem=dataclasses.replace(PROBLEM, path="")
    )


def test_events_follow_a_job_to_its_end(tmp_path: Path) -> None:
    from starlette.testclient import TestClient

    queue = JobQueue(tmp_path / "jobs.db")
    headers = {"Authorization": f"Bearer {TOKEN}"}
    with TestClient(
        make_app(queue, EvaluatorPool([Counting()]), Access("127.0.0.1", TOKEN)), base_url="http://127.0.0.1", headers=headers
    ) as client:
        job_id = client.post("/v1/jobs", json=body()).json()["job_id"]
        with client.stream("GET", f"/v1/jobs/{job_id}/events") as response:
            text = "".join(response.iter_text())
    last = json.loads(text.strip().rsplit("data: ", 1)[1])
    assert last["state"] == "done" and last["answer"]["evaluation"]["reason"] == "counted"
    queue.close()


def test_killed_in_the_middle_and_started_again_no_job_is_lost_or_scored_twice(tmp_path: Path) -> None:
    home = tmp_path / "there"
    with running_service(home) as (url, process):
        port = int(url.rsplit(":", 1)[1])
        client = httpx.Client(base_url=url, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=60)
        ids = [client.post("/v1/jobs", json=body(number)).json()["job_id"] for number in range(12)]
        answered = client.get(f"/v1/jobs/{ids[0]}", params={"wait": 30}).json()
        process.kill()
        process.wait()
    with running_service(home, port=port) as (url, _):
        client = httpx.Client(base_url=url, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=60)
        deadline = time.monotonic() + 120
        jobs = {}
        for job_id in ids:
            while (job := client.get(f"/v1/jobs/{job_id}", params={"wait": 20}).json())["state"] != "done" and time.monotonic() < deadline:
                pass
            jobs[job_id] = job
    assert all(job["answer"]["evaluation"]["status"] == "wrong_values" for job in jobs.values() if job["job_id"] != ids[0])
    assert jobs[ids[0]]["answer"] == answered["answer"]  # what was scored before the kill stayed as it was


def test_a_service_that_is_away_is_named(tmp_path: Path) -> None:
    with RemoteEvaluator("http://127.0.0.1:9", tmp_path, patience_s=0.1) as client, pytest.raises(MachineError, match=r"127\.0\.0\.1:9"):
        client.evaluate(pointwise_candidate("x"), PROBLEM, "cpu")


@pytest.mark.parametrize("where", ["", "ftp://host", "near"])
def test_an_unknown_place_lists_the_known(tmp_path: Path, where: str) -> None:
    with pytest.raises(OptionError, match="local, http://HOST:PORT, ray"):
        open_evaluator(where, tmp_path, "cpu")


def test_slots_share_the_cores_out() -> None:
    cores = sorted(os.sched_getaffinity(0))
    slots = find_slots("cpu", len(cores)) if len(cores) > 1 else []
    assert sorted(core for slot in slots for core in slot.cores) == (cores if slots else [])
    with pytest.raises(MachineError, match="slots need as many"):
        find_slots("cpu", 10_000)
