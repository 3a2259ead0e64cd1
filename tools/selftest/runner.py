"""Run fixtures through the evaluator and judge the verdicts."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import queue
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.errors import ToolsError
from tools.evaluator import LocalEvaluator
from tools.receipts import finite, host_facts
from tools.selftest.fixtures import Fixture
from tools.types import EFFORTS, Evaluation, Status

_LEAST_S = 10.0
"""A fixture gets at least this long, even at the end of the time limit."""
_DISTURBERS = ("D12", "H18")
"""They hang or fill a device, so they come last among those of their kind: what comes after them shows that nothing is left behind."""


@dataclass(frozen=True)
class Finding:
    """What the evaluator said about a fixture."""

    fixture: Fixture
    evaluation: Evaluation | None
    """None if the evaluator raised."""
    complaint: str
    """Why the verdict is not the expected one; empty if it is."""
    seconds: float = 0.0
    """Wall time, a second measurement included."""


def in_order(fixtures: Iterable[Fixture], target: str) -> list[Fixture]:
    """Return fixtures in the order in which a limited time shows most: those that only this target can run, controls, the others; each group by problem."""
    kind = target.partition(":")[0]
    return sorted(
        fixtures,
        key=lambda item: (
            item.target != kind,
            item.fixture_id in _DISTURBERS,
            item.family != "controls" and item.target != kind,
            item.problem,
        ),
    )


def run_fixtures(evaluator: LocalEvaluator, fixtures: Iterable[Fixture], target: str, *, seconds: float | None = None) -> Iterator[Finding]:
    """Evaluate each fixture and yield its finding as soon as it is known.

    Args:
        evaluator: What is tried.
        fixtures: In this order.
        target: Where.
        seconds: Start no fixture after so many seconds; what was cut off by the limit yields no finding.
    """
    began = time.monotonic()
    for fixture in fixtures:
        left_s = float("inf") if seconds is None else seconds - (time.monotonic() - began)
        if left_s <= 0:
            return
        finding = _run(evaluator, fixture, target, max(left_s, _LEAST_S))
        if finding.complaint and time.monotonic() - began > (seconds or float("inf")):
            return
        yield finding


def _run(evaluator: LocalEvaluator, fixture: Fixture, target: str, limit_s: float) -> Finding:
    began = time.monotonic()
    effort = EFFORTS[fixture.effort]
    chosen = dataclasses.replace(effort, timeout_s=min(fixture.timeout_s or effort.timeout_s, limit_s))
    try:
        evaluation = evaluator.evaluate(fixture.candidate(), fixture.load_problem(), target, chosen)
        found = complaint(fixture, evaluation)
        if found and evaluation.status in (Status.PASSED, Status.NOT_MEASURED):
            # As a search does with finalists: a claim counts if a second measurement repeats it; and a host that was too busy may be so no more.
            evaluation = evaluator.evaluate(fixture.candidate(), fixture.load_problem(), target, chosen, previous=evaluation)
            found = complaint(fixture, evaluation)
    except ToolsError as err:
        return Finding(fixture, None, f"the evaluator raised {type(err).__name__}: {err}", time.monotonic() - began)
    return Finding(fixture, evaluation, found, time.monotonic() - began)


def complaint(fixture: Fixture, evaluation: Evaluation) -> str:
    """Return why an evaluation is not what the fixture expects; empty if it is."""
    if evaluation.status is Status.NOT_MEASURED and fixture.max_speedup is not None and "passed" in fixture.expect:
        return ""  # others used the processors so much that nothing could be said: a gain that is not claimed is none
    if evaluation.status.value not in fixture.expect:
        return f"expected {' or '.join(fixture.expect)}, got {evaluation.status.value}: {evaluation.reason}"
    if evaluation.status is not Status.PASSED:
        return ""
    strongest = min((interval.low for interval in evaluation.speedup.values()), default=0.0)
    if fixture.max_speedup is not None and strongest > fixture.max_speedup:
        return f"claims at least {strongest:.2f}x over its baselines; at most {fixture.max_speedup:.2f}x can be true"
    if fixture.composition and evaluation.composition.value not in fixture.composition:
        return f"labelled {evaluation.composition.value}, should be {' or '.join(fixture.composition)}"
    if missing := set(fixture.labels) - set(evaluation.labels):
        return f"lacks the label {', '.join(sorted(missing))}; has {', '.join(evaluation.labels) or 'none'}"
    return ""


def as_record(finding: Finding, target: str, facts: dict[str, Any], host: dict[str, Any]) -> dict[str, Any]:  # Any: JSON
    """Return a finding as one raw record: what was expected, what came out, and where."""
    fixture, evaluation = finding.fixture, finding.evaluation
    record = {
        "suite": "self-test", "id": fixture.fixture_id, "name": fixture.name, "family": fixture.family, "kind": fixture.target, "target": target,
        "expected": list(fixture.expect), "got": evaluation.status.value if evaluation else "error", "complaint": finding.complaint,
        "seconds": round(finding.seconds, 3), "environment": {"device": facts, "host": host},
    }  # fmt: skip
    if evaluation is not None:
        record |= {
            "reason": evaluation.reason, "error": evaluation.feedback.error[:600], "latency_ms": evaluation.latency_ms,
            "composition": evaluation.composition.value, "precision_class": evaluation.precision_class, "labels": list(evaluation.labels), "roofline_fraction": evaluation.roofline_fraction,
            "speedup": {name: dataclasses.asdict(interval) for name, interval in evaluation.speedup.items()}, "phases_s": _phases(evaluation),
        }  # fmt: skip
    return dict(finite(record))


def append_record(path: Path, record: dict[str, Any]) -> None:  # Any: JSON
    """Append one JSON line and flush it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(record, sort_keys=True, allow_nan=False) + "\n")


def record_findings(
    evaluators: Sequence[LocalEvaluator], fixtures: Sequence[Fixture], target: str, records: Path | None, *, seconds: float | None = None
) -> Iterator[Finding]:
    """Like `run_fixtures`, with a raw record appended for each finding the moment it is known.

    Several evaluators work beside each other, each on the fixtures of one problem at a time; timings still come one after another on an accelerator.
    """
    options = ["--only", fixtures[0].fixture_id] if len(fixtures) == 1 else ["--seconds", f"{seconds:g}"] if seconds else []
    host = {**host_facts(), "command": ["kevolve", "self-test", "--target", target, *options]}
    began = time.monotonic()
    groups: queue.SimpleQueue[list[Fixture]] = queue.SimpleQueue()
    for _, group in itertools.groupby(fixtures, key=lambda item: (item.target, item.problem, item.fixture_id in _DISTURBERS)):
        groups.put(list(group))
    found: queue.SimpleQueue[tuple[Finding, dict[str, Any]] | None] = queue.SimpleQueue()

    def work(evaluator: LocalEvaluator) -> None:
        try:
            with contextlib.suppress(queue.Empty):
                while True:
                    left_s = None if seconds is None else max(0.0, seconds - (time.monotonic() - began))
                    for finding in run_fixtures(evaluator, groups.get_nowait(), target, seconds=left_s):
                        found.put((finding, evaluator.device_facts(target)))
        finally:
            found.put(None)

    with ThreadPoolExecutor(len(evaluators)) as threads:
        working = [threads.submit(work, evaluator) for evaluator in evaluators]
        busy = len(working)
        while busy:
            item = found.get()
            if item is None:
                busy -= 1
                continue
            if records is not None:
                append_record(records, as_record(item[0], target, item[1], host))
            yield item[0]
        for future in working:
            future.result()


def table(findings: Iterable[Finding]) -> str:
    """Return Markdown: how many fixtures of each family ran, and how many of their verdicts are as expected."""
    by_family: dict[str, list[bool]] = defaultdict(list)
    for item in findings:
        by_family[item.fixture.family].append(not item.complaint)
    everything = [verdict for verdicts in by_family.values() for verdict in verdicts]
    rows = [f"| {family} | {len(verdicts)} | {sum(verdicts)} |" for family, verdicts in [*sorted(by_family.items()), ("all", everything)]]
    return "\n".join(["| family | fixtures | as expected |", "|---|---|---|", *rows]) + "\n"


def _phases(evaluation: Evaluation) -> dict[str, float]:
    try:
        phases = json.loads(Path(evaluation.receipt).read_text(encoding="utf-8"))["phases_s"]
    except (OSError, ValueError, KeyError):
        return {}
    return {name: round(value, 3) for name, value in phases.items()}
