"""Run fixtures through the evaluator and judge the verdicts."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tools.errors import ToolsError
from tools.evaluator import LocalEvaluator
from tools.selftest.fixtures import Fixture
from tools.types import EFFORTS, Evaluation, Status


@dataclass(frozen=True)
class Finding:
    """What the evaluator said about a fixture."""

    fixture: Fixture
    evaluation: Evaluation | None
    """None if the evaluator raised."""
    complaint: str
    """Why the verdict is not the expected one; empty if it is."""


def run_fixtures(evaluator: LocalEvaluator, fixtures: Iterable[Fixture], target: str) -> Iterator[Finding]:
    """Evaluate each fixture and yield its finding as soon as it is known."""
    for fixture in fixtures:
        effort = EFFORTS[fixture.effort]
        chosen = dataclasses.replace(effort, timeout_s=fixture.timeout_s) if fixture.timeout_s else effort
        try:
            evaluation = evaluator.evaluate(fixture.candidate(), fixture.load_problem(), target, chosen)
        except ToolsError as err:
            yield Finding(fixture, None, f"the evaluator raised {type(err).__name__}: {err}")
            continue
        found = complaint(fixture, evaluation)
        if (
            found and evaluation.status is Status.PASSED
        ):  # as a search does with finalists: a claim counts if a second measurement repeats it
            evaluation = evaluator.evaluate(fixture.candidate(), fixture.load_problem(), target, chosen, previous=evaluation)
            found = complaint(fixture, evaluation)
        yield Finding(fixture, evaluation, found)


def complaint(fixture: Fixture, evaluation: Evaluation) -> str:
    """Return why an evaluation is not what the fixture expects; empty if it is."""
    if evaluation.status.value not in fixture.expect:
        return f"expected {' or '.join(fixture.expect)}, got {evaluation.status.value}: {evaluation.reason}"
    if evaluation.status is not Status.PASSED:
        return ""
    strongest = min((interval.low for interval in evaluation.speedup.values()), default=0.0)
    if fixture.max_speedup is not None and strongest > fixture.max_speedup:
        return f"claims at least {strongest:.2f}x over its baselines; at most {fixture.max_speedup:.2f}x can be true"
    if fixture.composition and evaluation.composition.value != fixture.composition:
        return f"labelled {evaluation.composition.value}, should be {fixture.composition}"
    return ""
