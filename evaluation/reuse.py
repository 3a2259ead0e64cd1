"""What earlier runs are worth for a new task of the same kind: steps to 1.2 times the baseline at injection rates 0, 0.1 and 0.5.

    python -m evaluation.reuse --out evaluation/results/reuse

Synthetic, but through the real outer loop, run store and knowledge base: a candidate is a point, tasks are smooth hills whose optima lie close together, as
shapes of one operator do. Four tasks are searched first and leave their winners; then a fifth is searched with every rate and seed, until its fitness
reaches 1.2 or the budget ends. The coder is memoryless but for the parent: it changes one coordinate of it, or draws a point.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import random
import re
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from agents.coders.base import CoderTask, Draft
from agents.config import RunConfig
from agents.driver import Machinery, create_run, drive
from agents.runs.store import RunStore
from agents.types import Budget
from evaluation.landscapes import NUM_COORDINATES, Point, child, draft
from evaluation.search_scale import evaluation_of
from tools.types import Candidate, Effort, Evaluation, Problem

if TYPE_CHECKING:
    from kb.store import KnowledgeBase

THRESHOLD = 1.2
RATES = (0.0, 0.1, 0.5)
_KNOWN: tuple[Point, ...] = ((6, 6, 6, 6, 6), (5, 6, 6, 6, 6), (6, 6, 5, 6, 6), (6, 6, 6, 6, 5))
_NEW: Point = (6, 5, 6, 5, 6)


@dataclass(frozen=True)
class Hill:
    """A task: fitness falls from 1.3 at the optimum by 0.05 for every step away from it, so that 1.2 is reached two steps from it."""

    optimum: Point

    @property
    def problem(self) -> Problem:
        """The task as a problem; all of them have the same signature."""
        source = f"OPTIMUM = {self.optimum}\nclass Model: ...\ndef get_inputs(): ...\ndef get_init_inputs(): ...\n"
        return Problem(problem_id=f"synthetic/hill-{''.join(map(str, self.optimum))}", name="hill", source=source)


class PointCoder:
    """Draws a point, or changes one coordinate of the parent."""

    async def write(self, task: CoderTask) -> Draft:
        """See `Coder.write`."""
        rng = task.rng()
        parents = [_point(attempt.candidate.source) for attempt in task.parents]
        point = child(parents[-2:], rng) if parents else draft(rng)
        return Draft(Candidate(source=f"POINT = {point}\n", language="torch"), f"try {point}")

    async def signature(self, problem: Problem, target: str) -> str:
        """See `Coder.signature`."""
        return f"hill over {NUM_COORDINATES} coordinates"


class HillEvaluator:
    """Looks the fitness up."""

    def evaluate(self, candidate: Candidate, problem: Problem, *, target: str, effort: Effort, seed: int) -> Evaluation:
        """See `Evaluator.evaluate`."""
        far = sum(abs(a - b) for a, b in zip(_point(candidate.source), _point(problem.source), strict=True))
        return dataclasses.replace(evaluation_of(candidate, max(0.05, 1.3 - 0.05 * far)), problem_id=problem.problem_id)


def _point(source: str) -> Point:
    found = re.search(r"(?:POINT|OPTIMUM) = \(([\d, ]+)\)", source)
    assert found is not None
    return tuple(int(part) for part in found[1].split(","))


@dataclass(frozen=True)
class Outcome:
    """One search of the new task."""

    rate: float
    seed: int
    strategy: str
    steps: int | None
    """Evaluations until fitness reached 1.2; None: not within the budget."""
    first_from_history: bool
    """True if the first candidate that was evaluated is an earlier winner."""


def learn(base: KnowledgeBase, home: Path, seed: int, evaluations: int) -> None:
    """Search the four known tasks and keep their winners."""
    with RunStore(home) as store:
        for hill in _KNOWN:
            config = RunConfig(coder="point", seed=seed, budget=Budget(evaluations), max_seeds=0, use_siblings=False)
            run_id = create_run(store, Hill(hill).problem, "cpu", config)
            asyncio.run(drive(store, run_id, Machinery(PointCoder(), HillEvaluator(), lambda _: (), base)))


def search(base: KnowledgeBase, home: Path, strategy: str, rate: float, seed: int, evaluations: int) -> Outcome:
    """Search the new task with one injection rate; nothing is written back."""
    config = RunConfig(
        strategy=strategy,
        coder="point",
        seed=seed,
        budget=Budget(evaluations),
        fitness_threshold=THRESHOLD,
        injection_rate=rate,
        use_siblings=rate > 0,
        write_back=False,
        finalists=1,
    )
    with RunStore(home) as store:
        run_id = create_run(store, Hill(_NEW).problem, "cpu", config)
        asyncio.run(drive(store, run_id, Machinery(PointCoder(), HillEvaluator(), lambda _: (), base)))
        nodes = store.nodes(run_id)
    steps = next((node.step + 1 for node in nodes if node.fitness >= THRESHOLD), None)
    return Outcome(rate, seed, strategy, steps, bool(nodes and nodes[0].candidate.provenance.get("winner_id")))


def report(outcomes: Sequence[Outcome], budget: int) -> str:
    """Return the table: searches that ended without reaching 1.2 count with the whole budget."""
    lines = ["| injection rate | median steps to 1.2 | mean | reached | first candidate from history |", "|---|---|---|---|---|"]
    for rate in sorted({outcome.rate for outcome in outcomes}):
        mine = [outcome for outcome in outcomes if outcome.rate == rate]
        steps = [outcome.steps or budget for outcome in mine]
        reached = sum(outcome.steps is not None for outcome in mine)
        history = sum(outcome.first_from_history for outcome in mine)
        lines.append(
            f"| {rate:g} | {statistics.median(steps):g} | {statistics.mean(steps):.1f} | {reached}/{len(mine)} | {history}/{len(mine)} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run the study and write records and table."""
    from kb.store import KnowledgeBase

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--evaluations", type=int, default=100, help="budget of every search")
    parser.add_argument("--strategy", default="greedy")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    outcomes = []
    with tempfile.TemporaryDirectory() as folder, KnowledgeBase.open(Path(folder) / "kb", embedder="hashing") as base:
        learn(base, Path(folder), random.Random(0).randrange(100), 60)
        for seed in range(options.seeds):
            outcomes += [search(base, Path(folder), options.strategy, rate, seed, options.evaluations) for rate in RATES]
    options.out.mkdir(parents=True, exist_ok=True)
    with (options.out / "outcomes.jsonl").open("w", encoding="utf-8") as file:
        for outcome in outcomes:
            file.write(json.dumps(dataclasses.asdict(outcome)) + "\n")
    head = f"# Steps to {THRESHOLD} for a new task of a known kind\n\n{options.seeds} seeds, {options.strategy}, at most {options.evaluations} evaluations; synthetic tasks.\n\n"
    (options.out / "report.md").write_text(head + report(outcomes, options.evaluations), encoding="utf-8")


if __name__ == "__main__":
    main()
