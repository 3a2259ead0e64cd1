"""What the evaluation service and the pools are worth, measured: jobs over kills, throughput of one and two workers, overhead of a warm worker.

`python -m evaluation.service_study faults|throughput|overhead --records FILE` appends one JSON line per observation.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tools.problems import problem_from_source
from tools.receipts import host_facts
from tools.slots import Slot, find_slots
from tools.types import QUICK, Candidate, Evaluation, Status

TOKEN = "a-token-for-one-study-only"
_UNCOUNTED = 2
_SOURCE = """
import torch
from torch import nn
class {name}(nn.Module):
    def forward(self, x):
        return {body}
"""
_PROBLEM = problem_from_source(
    _SOURCE.format(name="Model", body="torch.tanh(x)")
    + "def get_inputs():\n    return [torch.randn(256, 512)]\ndef get_init_inputs():\n    return []\n",
    problem_id="study/tanh",
)

_LARGE = problem_from_source(
    _SOURCE.format(name="Model", body="torch.tanh(x)")
    + "def get_inputs():\n    return [torch.randn(4096, 4096)]\ndef get_init_inputs():\n    return []\n",
    problem_id="study/tanh-large",
)


def candidate(number: int, *, honest: bool) -> Candidate:
    """Return the number-th candidate: right, or wrong by a constant."""
    body = "torch.tanh(x)" if honest else f"torch.tanh(x) + {number + 1}"
    return Candidate(_SOURCE.format(name="ModelNew", body=body) + f"# {number}\n", language="torch")


def faults(jobs: int, kills: int, seed: int) -> dict[str, Any]:  # Any: JSON
    """Queue jobs at a service that is killed (SIGKILL) several times on the way; count what was lost or scored twice."""
    import httpx

    from agents.serving.wire import Request

    generator = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        ids: list[str] = []
        home, port, began = Path(folder), 0, time.monotonic()
        killed_at: list[int] = []
        for number in range(kills + 1):
            with running_service(home, "--slots", "2", port=port) as (url, process):
                port = int(url.rsplit(":", 1)[1])
                client = httpx.Client(base_url=url, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=60)
                if not ids:
                    requests = [Request(candidate(item, honest=False), _PROBLEM, "cpu", QUICK).to_json() for item in range(jobs)]
                    ids = [
                        client.post("/v1/jobs", json={"request": request, "key": str(item)}).json()["job_id"]
                        for item, request in enumerate(requests)
                    ]
                goal = jobs if number == kills else generator.randrange(jobs * number // (kills + 1), jobs * (number + 1) // (kills + 1))
                while (done := client.get("/health").json()["jobs"].get("done", 0)) < goal:
                    time.sleep(0.2)
                if number < kills:
                    killed_at.append(done)
                    process.kill()
                    process.wait()
                else:
                    answers = [client.get(f"/v1/jobs/{job_id}").json() for job_id in ids]
        receipts = len(list((home / "receipts").glob("*.json")))
    statuses = [answer["answer"]["evaluation"]["status"] for answer in answers if answer["state"] == "done"]
    return {
        "study": "faults", "jobs": jobs, "kills": kills, "killed_after_jobs": killed_at, "answered": len(statuses), "lost": jobs - len(statuses),
        "distinct_jobs": len(set(ids)), "wrong_verdicts": sum(status != "wrong_values" for status in statuses),
        "evaluated_again_after_a_kill": receipts - jobs, "seconds": time.monotonic() - began, "seed": seed,
    }  # fmt: skip


def throughput(kind: str, evaluations: int) -> Iterator[dict[str, Any]]:  # Any: JSON
    """Compare two workers with one, each worker on one core."""
    from agents.serving.pool import EvaluatorPool, local_pool
    from agents.serving.ray_pool import ray_pool

    make: Callable[..., EvaluatorPool] = ray_pool if kind == "ray" else local_pool
    rates = {}
    for workers in (1, 2):
        slots = [Slot(cores=slot.cores) for slot in find_slots("cpu", 2)[:workers]]
        with tempfile.TemporaryDirectory() as folder, make(Path(folder), slots, use_compiled_baseline=False) as pool:
            _run(pool.evaluate, [candidate(-number - 1, honest=True) for number in range(2 * workers)], workers)  # warm
            began = time.monotonic()
            found = _run(pool.evaluate, [candidate(number, honest=True) for number in range(evaluations)], workers)
            seconds = time.monotonic() - began
        rates[workers] = evaluations / seconds
        passed = sum(item.status.value == "passed" for item in found)
        yield {
            "study": "throughput",
            "kind": kind,
            "workers": workers,
            "evaluations": evaluations,
            "passed": passed,
            "per_second": rates[workers],
        }
    yield {"study": "throughput", "kind": kind, "gain_of_the_second_worker": rates[2] / rates[1]}


def gpus(evaluations: int, seconds: float) -> Iterator[dict[str, Any]]:  # Any: JSON
    """Compare the throughput of every accelerator of this host together with that of its first one, over one queue of distinct candidates.

    Args:
        evaluations: Length of the queue.
        seconds: For both halves together; a half that would pass its share stops taking new candidates, and its rate is over what was done.
    """
    from agents.serving.pool import local_pool

    slots, rates, began = find_slots("cuda"), {}, time.monotonic()
    for workers in sorted({1, len(slots)}):
        chosen = slots[:workers]
        limit = began + seconds * (0.65 if workers == 1 else 1.0)
        with tempfile.TemporaryDirectory() as folder, local_pool(Path(folder), chosen, use_compiled_baseline=False) as pool:

            def one(item: Candidate, pool: Any = pool, limit: float = limit) -> Evaluation | None:  # Any: EvaluatorPool
                return None if time.monotonic() > limit else pool.evaluate(item, _LARGE, "cuda", QUICK)

            with ThreadPoolExecutor(workers) as threads:
                list(threads.map(one, [candidate(-number - 1, honest=True) for number in range(2 * workers)]))  # warm
                started = time.monotonic()
                found = [item for item in threads.map(one, [candidate(number, honest=True) for number in range(evaluations)]) if item]
                took_s = time.monotonic() - started
        rates[workers] = len(found) / took_s
        yield {
            "study": "gpus", "workers": workers, "evaluations": len(found), "passed": sum(item.status.value == "passed" for item in found),
            "seconds": took_s, "per_second": rates[workers], "median_evaluation_s": statistics.median(item.seconds for item in found) if found else None,
            "failures": sorted({f"{item.status.value}: {item.reason}"[:300] for item in found if item.status.value != "passed"}),
        }  # fmt: skip
    yield {"study": "gpus", "accelerators": len(slots), "gain_of_all": rates[len(slots)] / rates[1] if rates.get(1) else None}


def overhead(evaluations: int, target: str, is_large: bool = False, seconds: float = 300.0) -> Iterator[dict[str, Any]]:  # Any: JSON
    """Measure what a warm worker's evaluation takes beyond compiling and timed calls: a record for each evaluation, then one of all.

    Args:
        evaluations: How many count; two more come first, which open the problem and compile the baseline.
        target: Where.
        is_large: 64 MiB of input instead of 0.5.
        seconds: No further evaluation begins that would not end by then, and one that runs at that time is given up.
    """
    from tools.evaluator import LocalEvaluator
    from tools.selftest.fixtures import load_fixtures

    is_cpu = target.partition(":")[0] == "cpu"
    kernel = next(item.source for item in load_fixtures("cuda") if item.name == "fp17_short_launch")  # an honest tanh, as the problem is
    problem = _LARGE if is_large else _PROBLEM
    shared = {"study": "overhead", "target": target, "problem": problem.problem_id}
    counted: list[dict[str, Any]] = []  # Any: JSON
    facts: dict[str, Any] = {}  # Any: JSON
    began, longest_s = time.monotonic(), 0.0
    with _within(seconds), tempfile.TemporaryDirectory() as folder, LocalEvaluator(Path(folder)) as evaluator:
        for number in range(evaluations + _UNCOUNTED):
            if number > _UNCOUNTED and time.monotonic() - began + longest_s > seconds:
                break
            item = candidate(number, honest=True) if is_cpu else Candidate(f"{kernel}# {number}\n", language="triton")
            evaluation = evaluator.evaluate(item, problem, target, QUICK)
            longest_s = max(longest_s, evaluation.seconds) if number >= _UNCOUNTED else 0.0
            record = {**shared, **beyond(evaluation, is_cpu=is_cpu), "number": number, "counts": number >= _UNCOUNTED}
            facts = evaluator.device_facts(target)
            yield record
            if evaluation.status is Status.PASSED and record["counts"]:
                counted.append(record)
    if not counted:
        yield {
            **shared,
            "evaluations": 0,
            "median_s": None,
            "device": facts,
            "reason": f"no counted evaluation passed within {seconds:.0f} s",
        }
        return
    phases = [item["phases_s"] for item in counted]
    yield {
        **shared,
        "evaluations": len(counted),
        "asked_for": evaluations,
        "median_s": statistics.median(item["overhead_s"] for item in counted),
        "median_without_sweeps_s": statistics.median(item["overhead_without_sweeps_s"] for item in counted),
        "samples_s": [item["overhead_s"] for item in counted],
        "median_phases_s": {name: statistics.median(item.get(name, 0.0) for item in phases) for name in phases[0]},
        "device": facts,
    }


def beyond(evaluation: Evaluation, *, is_cpu: bool) -> dict[str, Any]:  # Any: JSON
    """Return where an evaluation's time went and what of it is neither compiling nor timed calls.

    Not counted as overhead: `timing.blocks` (the timed blocks), `baseline` (compiling the baselines) and, on an accelerator, `check.first_call`, in which the
    candidate compiles. The calls on fresh inputs (`timing.fresh_inputs`) are timed, too, and count all the same; the second number leaves them out.
    """
    spent = evaluation.phases_s
    uncounted = ["timing.blocks", "baseline", *([] if is_cpu else ["check.first_call"])]
    over = evaluation.seconds - sum(spent.get(name, 0.0) for name in uncounted)
    whole = sum(value for name, value in spent.items() if "." not in name)
    return {
        "status": evaluation.status.value,
        "reason": evaluation.reason[:500],
        "seconds": evaluation.seconds,
        "overhead_s": over,
        "overhead_without_sweeps_s": over - spent.get("timing.fresh_inputs", 0.0),
        "not_counted": uncounted,
        "outside_phases_s": evaluation.seconds - whole,
        "phases_s": dict(spent),
    }


@contextlib.contextmanager
def _within(seconds: float) -> Iterator[None]:
    """End what runs inside after so many seconds, quietly; the main thread only."""

    def end(*_: object) -> None:
        raise _TimeUpError

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    except _TimeUpError:
        logging.getLogger(__name__).warning("given up after %.0f s", seconds)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)


class _TimeUpError(BaseException):
    """The time of a study is over; no handler of errors is meant to stop it."""


def _run(evaluate: Callable[..., Evaluation], candidates: Sequence[Candidate], workers: int) -> list[Evaluation]:
    with ThreadPoolExecutor(workers) as threads:
        return list(threads.map(lambda item: evaluate(item, _PROBLEM, "cpu", QUICK), candidates))


@contextlib.contextmanager
def running_service(home: Path, *options: str, port: int = 0) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Yield the URL and the process of a real `kevolve serve` on the CPU; its token is `TOKEN`.

    Args:
        home: Its state directory.
        options: Further options of the command.
        port: 0: any free one.

    Raises:
        RuntimeError: It ended before it listened.
    """
    command = [sys.executable, "-m", "agents.cli", "serve", "--target", "cpu", "--port", str(port), "--home", str(home), *options]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "KEVOLVE_SERVICE_TOKEN": TOKEN})
    try:
        if process.stderr is None:
            raise RuntimeError("no pipe from the service")
        found = next((match for line in process.stderr if (match := re.search(r"at (http://\S+);", line))), None)
        if found is None:
            raise RuntimeError("the service ended before it listened")
        threading.Thread(target=process.stderr.read, daemon=True).start()
        yield found[1], process
    finally:
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(30)
        process.kill()
        process.wait()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one study and append its records."""
    parser = argparse.ArgumentParser(prog="python -m evaluation.service_study", description=__doc__)
    parser.add_argument("study", choices=("faults", "throughput", "overhead", "gpus"))
    parser.add_argument("--records", type=Path, required=True, help="a .jsonl file to append to")
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--evaluations", type=int, default=24)
    parser.add_argument("--seconds", type=float, default=300.0, help="limit of the studies `gpus` and `overhead`")
    parser.add_argument("--kind", choices=("local", "ray"), default="ray")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--target", default="cpu", help="of the study `overhead`")
    parser.add_argument("--large", action="store_true", help="the study `overhead` with 64 MiB of input instead of 0.5")
    options = parser.parse_args(arguments)
    found: Iterable[dict[str, Any]]  # Any: JSON
    if options.study == "faults":
        found = [faults(options.jobs, options.kills, options.seed)]
    elif options.study == "overhead":
        logging.basicConfig(format="%(relativeCreated)8.0f ms  %(message)s")
        logging.getLogger("tools.evaluator").setLevel(logging.DEBUG)  # a line for each phase, at once
        found = overhead(options.evaluations, options.target, options.large, options.seconds)
    elif options.study == "gpus":
        found = gpus(options.evaluations, options.seconds)
    else:
        found = throughput(options.kind, options.evaluations)
    host = {**host_facts(), "command": ["python", "-m", "evaluation.service_study", *(arguments or sys.argv[1:])]}
    options.records.parent.mkdir(parents=True, exist_ok=True)
    with options.records.open("a", encoding="utf-8") as file, contextlib.suppress(_TimeUpError):  # it may be over while a record is written
        for item in found:
            file.write(json.dumps({**item, "host": host}, sort_keys=True) + "\n")
            file.flush()
            sys.stdout.write(json.dumps({name: value for name, value in item.items() if name != "samples_s"}) + "\n")
            sys.stdout.flush()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
