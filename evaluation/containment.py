"""Candidates that hang, fork without end, hoard memory or hide from signals, each followed by an honest one: is the next verdict what it was, and its time?

`python -m evaluation.containment --target cpu --records FILE` appends one JSON line for each honest evaluation before, one for each disturber with the evaluation
that came next, and one of all. A disturber that hangs is tried twice: the second time it has to be remembered.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from tools.evaluator import LocalEvaluator
from tools.receipts import finite, host_facts
from tools.selftest.fixtures import Fixture, load_fixtures
from tools.selftest.runner import append_record
from tools.types import QUICK, Candidate, Effort, Evaluation, Problem, Status
from tools.worker.processes import descendants

HONEST = {"cpu": "fp06_much_faster", "cuda": "fp01_triton_softmax"}
"""Control that is measured before and after, by toolchain."""
DISTURBERS = (
    "d12_python_loop",
    "d12_gpu_hang",
    "h17_sigterm_setsid",
    "h18_fork_bomb",
    "h18_processes_that_follow",
    "h18_memory_hog",
    "h18_shared_memory_hog",
    "h18_device_memory_hog",
    "h18_device_memory_kept",
    "h22_crash",
)
LIMIT_S = 10.0
"""Time limit of a disturber."""
MOST_OVER_S = 5.0
"""What ending one may take beyond its limit."""
_TOUCHES = """
import mmap
from torch import nn
hoard = []
while True:
    hoard.append(mmap.mmap(-1, 1 << 28))
    hoard[-1][:] = bytes(1 << 28)
class ModelNew(nn.Module):
    pass
"""
_SHARE = 1.2
"""The next latency may differ from those before by this factor at the most, or by as much as they differ among themselves."""
_MORE_S = 3.0
"""… and the next evaluation may take so much longer."""


class Evaluates(Protocol):
    """What is tried."""

    def evaluate(self, candidate: Candidate, problem: Problem, target: str, effort: Effort = QUICK) -> Evaluation:
        """Return what became of a candidate."""


def disturbers(target: str, names: Sequence[str] = ()) -> list[Fixture]:
    """Return the disturbers that make sense on a target, those of `names` alone if there are any."""
    known = {item.name: item for item in load_fixtures(target.partition(":")[0])}
    loop = known["d12_python_loop"]
    known["h18_shared_memory_hog"] = dataclasses.replace(
        loop,
        name="h18_shared_memory_hog",
        fixture_id="H18",
        source=_TOUCHES,
        expect=("out_of_memory", "runtime_error", "compile_error", "timeout"),
    )
    return [known[name] for name in DISTURBERS if name in known and (not names or name in names)]


def study(
    evaluator: Evaluates, target: str, chosen: Sequence[Fixture], *, before: int, seconds: float, limit_s: float = LIMIT_S
) -> Iterator[dict[str, Any]]:  # Any: JSON
    """Evaluate an honest candidate, then each disturber and the honest one after it; yields records.

    Args:
        evaluator: One that lives through all of it.
        target: Where.
        chosen: Disturbers.
        before: Honest evaluations that count before the first disturber; one more opens the problem.
        seconds: Start no disturber after so many seconds.
        limit_s: Time limit of a disturber.
    """
    began = time.monotonic()
    honest = next(item for item in load_fixtures(target.partition(":")[0]) if item.name == HONEST[target.partition(":")[0]])
    problem = honest.load_problem()
    earlier: list[Evaluation] = []
    for number in range(before + 1):
        found = evaluator.evaluate(honest.candidate(), problem, target, QUICK)
        if number:
            earlier.append(found)
        yield {"study": "containment", "target": target, "part": "before", "counts": number > 0, "honest": _shown(found)}
    usual = len(descendants(os.getpid())) + 1  # the disturber's own problem has a reference process, which is kept
    judged: list[dict[str, Any]] = []
    for item in chosen:
        if time.monotonic() - began > seconds:
            break
        effort = dataclasses.replace(QUICK, timeout_s=limit_s)
        what = item.candidate(), item.load_problem(), target, effort
        started = time.monotonic()
        disturbed = evaluator.evaluate(*what)
        took_s = time.monotonic() - started
        left = max(0, len(descendants(os.getpid())) - usual)
        after = evaluator.evaluate(honest.candidate(), problem, target, QUICK)
        again_s, is_remembered = None, None
        if disturbed.status is Status.TIMEOUT:
            started = time.monotonic()
            is_remembered = evaluator.evaluate(*what).status is Status.TIMEOUT
            again_s = time.monotonic() - started
        record = {
            "study": "containment", "target": target, "part": "after", "disturber": item.name, "expected": list(item.expect), "limit_s": limit_s,
            "status": disturbed.status.value, "reason": disturbed.reason[:300], "seconds": took_s, "phases_s": dict(disturbed.phases_s),
            "is_remembered": is_remembered, "again_s": again_s, "processes_left": left, "honest": _shown(after),
            **judge(item.expect, disturbed, limit_s, earlier, after, again_s, left),
        }  # fmt: skip
        judged.append(record)
        yield record
    yield {
        "study": "containment", "target": target, "part": "all", "disturbers": len(judged), "asked_for": len(chosen),
        "as_expected": sum(item["is_as_expected"] for item in judged), "next_unaffected": sum(item["next_unaffected"] for item in judged),
        "most_over_limit_s": max((item["over_limit_s"] for item in judged), default=None),
        "next_latency_ratio": _range([item["next_latency_ratio"] for item in judged]), "next_seconds_more": _range([item["next_seconds_more"] for item in judged]),
        "before_latency_ms": [item.latency_ms for item in earlier],
    }  # fmt: skip


def judge(
    expect: Sequence[str],
    disturbed: Evaluation,
    limit_s: float,
    earlier: Sequence[Evaluation],
    after: Evaluation,
    again_s: float | None,
    left: int,
) -> dict[str, Any]:  # Any: JSON
    """Return whether a disturber was ended as it should be, and whether the next evaluation is what those before it were.

    The next one's latency has to lie within a factor 1.2 of the median before, or within what those before differ among themselves; the evaluation may take 3 s longer.
    """
    latencies = [item.latency_ms for item in earlier if item.latency_ms]
    usual_s = statistics.median(item.seconds for item in earlier)
    ratio = after.latency_ms / statistics.median(latencies) if after.latency_ms and latencies else None
    allowed = max(_SHARE, max(latencies) / min(latencies)) if latencies else _SHARE
    over_s = max(0.0, disturbed.phases_s.get("check", 0.0) - limit_s)
    is_ended = over_s <= MOST_OVER_S and left == 0 and (again_s is None or again_s <= MOST_OVER_S)
    more_s = after.seconds - usual_s
    return {
        "is_as_expected": disturbed.status.value in expect and is_ended,
        "over_limit_s": over_s,
        "next_latency_ratio": ratio,
        "next_seconds_more": more_s,
        "next_unaffected": after.status is Status.PASSED and ratio is not None and 1 / allowed <= ratio <= allowed and more_s <= _MORE_S,
    }


def _shown(evaluation: Evaluation) -> dict[str, Any]:  # Any: JSON
    return {
        "status": evaluation.status.value, "reason": evaluation.reason[:300], "latency_ms": evaluation.latency_ms, "seconds": evaluation.seconds,
        "speedup": {name: dataclasses.asdict(interval) for name, interval in evaluation.speedup.items()}, "phases_s": dict(evaluation.phases_s),
    }  # fmt: skip


def _range(values: Sequence[float | None]) -> list[float] | None:
    known = [value for value in values if value is not None]
    return [min(known), max(known)] if known else None


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the study; returns 0 if every disturber was ended as it should be and every next evaluation is unaffected."""
    parser = argparse.ArgumentParser(prog="python -m evaluation.containment", description=__doc__)
    parser.add_argument("--target", default="cpu")
    parser.add_argument("--records", type=Path, required=True, help="a .jsonl file to append to")
    parser.add_argument("--before", type=int, default=5, help="honest evaluations before the first disturber")
    parser.add_argument("--seconds", type=float, default=300.0, help="start no disturber after so many seconds")
    parser.add_argument("--only", default="", help=f"some of {', '.join(DISTURBERS)}, separated by commas")
    options = parser.parse_args(arguments)
    names = [name for name in options.only.split(",") if name]
    if unknown := sorted(set(names) - set(DISTURBERS)):
        parser.error(f"no disturber {', '.join(unknown)}; known: {', '.join(DISTURBERS)}")
    command = ["python", "-m", "evaluation.containment", *(arguments or sys.argv[1:])]
    host, last = {**host_facts(), "command": command}, {}
    with tempfile.TemporaryDirectory() as folder, LocalEvaluator(Path(folder), use_lint=False, use_compiled_baseline=False) as evaluator:
        for last in study(evaluator, options.target, disturbers(options.target, names), before=options.before, seconds=options.seconds):
            facts = evaluator.device_facts(options.target)
            append_record(options.records, dict(finite({**last, "device": facts, "host": host})))
            sys.stdout.write(json.dumps(finite({name: value for name, value in last.items() if name not in ("honest", "phases_s")})) + "\n")
            sys.stdout.flush()
    return 0 if last["asked_for"] == last["as_expected"] == last["next_unaffected"] else 1


if __name__ == "__main__":
    raise SystemExit(main())
