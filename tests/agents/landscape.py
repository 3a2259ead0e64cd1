"""A synthetic problem with a known optimum: candidates are points on a grid, fitness is a function of the point.

The coder and the evaluator stand in for the real ones through the real constructors; both are deterministic.
"""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from agents.coders.base import CoderTask, Draft
from agents.config import RunConfig
from agents.driver import Machinery, create_run, drive
from agents.runs.store import RunStore
from agents.types import Budget
from tools.types import (
    Candidate,
    Composition,
    Effort,
    Evaluation,
    Evidence,
    Interval,
    Problem,
    Status,
    Timing,
    WorkloadEvaluation,
)

PROBLEM = Problem(problem_id="synthetic/hill", name="hill", source="class Model: ...\ndef get_inputs(): ...\ndef get_init_inputs(): ...\n")
SIDE = 12

Point = tuple[int, int]


def hill(point: Point) -> float:
    """One smooth optimum: 3.0 at (9, 4)."""
    return 3.0 / (1.0 + 0.15 * (abs(point[0] - 9) + abs(point[1] - 4)))


def deceptive(point: Point) -> float:
    """A wide slope to 1.5 at (0, 0), and a narrow peak of 3.0 at (9, 9) behind a valley."""
    far = abs(point[0] - 9) + abs(point[1] - 9)
    return 3.0 - 0.4 * far if far < 5 else 1.5 - 0.05 * (point[0] + point[1])


def point_of(candidate: Candidate) -> Point:
    found = re.search(r"POINT = \((\d+), (\d+)\)", candidate.source)
    assert found is not None
    return int(found[1]), int(found[2])


def candidate_at(point: Point, comment: str = "") -> Candidate:
    return Candidate(source=f"# {comment}\nPOINT = ({point[0]}, {point[1]})\n", language="torch")


@dataclass
class WalkingCoder:
    """Drafts at random; otherwise takes one step from the parent, or the mean of two parents. Points in the first columns need a repair first."""

    failing: bool = True
    delay_s: float = 0.0
    calls: int = 0

    async def write(self, task: CoderTask) -> Draft:
        self.calls += 1
        await asyncio.sleep(self.delay_s)
        rng = task.rng()
        if not task.parents:
            point = (rng.randrange(SIDE), rng.randrange(SIDE))
        elif len(task.parents) == 2 and task.attempt == 1:
            first, second = (point_of(parent.candidate) for parent in task.parents)
            point = ((first[0] + second[0]) // 2, (first[1] + second[1]) // 2)
        else:
            x, y = point_of(task.parents[-1].candidate)
            dx, dy = rng.choice([(1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, -1)])
            point = (min(max(x + dx, 0), SIDE - 1), min(max(y + dy, 0), SIDE - 1))
        return Draft(candidate=candidate_at(point, f"attempt {task.attempt}"), summary=f"try {point}", chunk_ids=("chunk-1",))

    async def signature(self, problem: Problem, target: str) -> str:
        return "hill"


@dataclass
class EndingCoder(WalkingCoder):
    """Has only so many ideas."""

    ideas: int = 4

    async def write(self, task: CoderTask) -> Draft:
        if len(task.history) + task.sibling >= self.ideas:
            return Draft(candidate=None, exhausted=True)
        return Draft(candidate=candidate_at((len(task.history) + task.sibling, 3)), summary="next idea")

    async def signature(self, problem: Problem, target: str) -> str:
        return "hill"


@dataclass
class LandscapeEvaluator:
    """Looks the fitness up, and remembers what it was asked; fails points of column 5 and hangs at (7, 7)."""

    fitness: Callable[[Point], float] = hill
    delay_s: float = 0.0
    log: Path | None = None
    calls: list[tuple[Point, str]] = field(default_factory=list)
    timeouts_s: list[float] = field(default_factory=list)
    most_at_once: int = 0
    status: Status | None = None
    labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._now = 0

    def evaluate(self, candidate: Candidate, problem: Problem, *, target: str, effort: Effort, seed: int) -> Evaluation:
        point = point_of(candidate)
        with self._lock:
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)
            self.calls.append((point, effort.name))
            self.timeouts_s.append(effort.timeout_s)
        time.sleep(self.delay_s)
        if self.log is not None:
            with self.log.open("a") as file:
                file.write(f"{point} {effort.name}\n")
        with self._lock:
            self._now -= 1
        status = self.status or (Status.WRONG_VALUES if point[0] == 5 else Status.TIMEOUT if point == (7, 7) else Status.PASSED)
        found = evaluation_of(candidate, status, self.fitness(point), problem=problem, target=target)
        return replace(found, labels=self.labels)


def evaluation_of(
    candidate: Candidate, status: Status, fitness: float = 1.0, *, problem: Problem = PROBLEM, target: str = "cpu"
) -> Evaluation:
    has_passed = status is Status.PASSED
    latency = 1.0 / fitness
    speedup = {"eager": Interval(2 * fitness, 1.9 * fitness, 2.1 * fitness), "compiled": Interval(fitness, 0.95 * fitness, 1.05 * fitness)}
    workload = WorkloadEvaluation(
        "default", Timing(latency, (latency,)), {"eager": Timing(2.0, (2.0,)), "compiled": Timing(1.0, (1.0,))}, speedup
    )
    return Evaluation(
        candidate_id=candidate.candidate_id,
        problem_id=problem.problem_id,
        target=target,
        evidence=Evidence.MEASURED,
        status=status,
        reason="" if has_passed else f"it was {status.value}",
        workloads=(workload,) if has_passed else (),
        latency_ms=latency if has_passed else None,
        speedup=speedup if has_passed else {},
        composition=Composition.CUSTOM if has_passed else Composition.UNKNOWN,
        seconds=0.01,
    )


def config(strategy: str = "greedy", evaluations: int | None = 12, **more: object) -> RunConfig:
    return RunConfig(strategy=strategy, coder="walking", budget=Budget(evaluations=evaluations, seconds=more.pop("seconds", None)), **more)  # type: ignore[arg-type]  # test shorthand


def machinery(evaluator: LandscapeEvaluator | None = None, coder: WalkingCoder | None = None, **more: object) -> Machinery:
    return Machinery(
        coder=coder or WalkingCoder(), evaluator=evaluator or LandscapeEvaluator(), lint=more.pop("lint", lambda _: ()), **more
    )  # type: ignore[arg-type]  # test shorthand


def search(home: Path, settings: RunConfig, tools: Machinery | None = None) -> tuple[RunStore, str, dict[str, object]]:
    """Run a whole search and return the store, the run id and the result."""
    store = RunStore(home)
    run_id = create_run(store, PROBLEM, "cpu", settings)
    result = asyncio.run(drive(store, run_id, tools or machinery()))
    return store, run_id, dict(result)


def shape(store: RunStore, run_id: str) -> list[tuple[object, ...]]:
    """Return a run's graph without the ids that contain the run's own."""
    nodes = store.nodes(run_id)
    step = {node.node_id: node.step for node in nodes}
    return [
        (
            node.step,
            node.round,
            node.session_id,
            node.attempt,
            tuple(step[parent] for parent in node.parents),
            node.source_hash,
            node.evaluation.status.value,
            node.fitness,
            sorted(node.algorithm.items()),
        )
        for node in nodes
    ]
