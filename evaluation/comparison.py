"""Compare search strategies at equal budget: every strategy on every problem with every seed, one record a search, appended the moment it is known.

Coder, evaluator and knowledge base are the same for all; nothing is learned on the way (no earlier winners, no write-back), so the order of the searches
does not matter. A distinct candidate of a problem is measured once in the search and, if it becomes a finalist, once more afresh: both measurements are
shared by all searches that come to it. So differences between strategies come from what they choose, not from the noise of a measurement; the noise that is
left is common to all, and the report says so.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agents.config import RunConfig
from agents.context import Evaluator
from agents.driver import Machinery, create_run, drive, versions
from agents.runs.hashing import normalised_hash
from agents.runs.store import RunStore
from agents.strategies.registry import create_strategy
from evaluation.errors import EvaluationError, RecordError
from evaluation.recorded import Recording
from tools.receipts import source_commit
from tools.types import Candidate, Effort, Evaluation, Problem

SCHEMA = 1


@dataclass(frozen=True)
class Search:
    """One search of a comparison."""

    problem_id: str
    strategy: str
    seed: int
    target: str
    budget: int
    """Evaluations that it was given."""
    fitness: float
    """Fitness of what it published, measured again where finalists are; 0.0 if nothing passed."""
    curve: tuple[float, ...]
    """Best fitness measured in the search after every evaluation of it, in order."""
    candidate_id: str
    num_evaluations: int
    num_nodes: int
    seconds: float
    reason: str
    """Why it ended."""
    environment: Mapping[str, Any] = field(default_factory=dict)  # Any: JSON
    schema: int = SCHEMA


@dataclass(frozen=True)
class Plan:
    """What is compared."""

    strategies: tuple[str, ...]
    problems: tuple[Problem, ...]
    seeds: int
    target: str
    """Exact target."""
    config: RunConfig
    """Budget and coder of every search; strategy and seed are filled in."""
    results: Path
    """The `.jsonl` file that records are appended to; measurements stand beside it, in `….evaluations.jsonl`."""

    def __post_init__(self) -> None:
        if not self.problems or not self.strategies or self.seeds < 1:
            raise EvaluationError("nothing to compare: give at least one strategy, one problem and one seed")
        if len(set(self.strategies)) != len(self.strategies):
            raise EvaluationError(f"a strategy is named twice: {', '.join(self.strategies)}")
        for name in self.strategies:
            create_strategy(name)


class SharedEvaluator:
    """Measures every distinct candidate of a problem once for each purpose, and remembers it in a file.

    Args:
        inner: Measures.
        path: A `.jsonl` file; what it holds already is not measured again.
        effort: What a measurement may spend, in the search and for finalists alike; None: as the search asks.
    """

    def __init__(self, inner: Evaluator, path: Path, effort: Effort | None = None) -> None:
        self._inner, self._path, self._effort = inner, path, effort
        self._lock = threading.Lock()
        self._known: dict[str, Evaluation] = {}
        self.num_measured = 0
        """Measurements made by this process."""
        if path.exists():
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
                try:
                    entry = json.loads(line)
                    self._known[entry["key"]] = Evaluation.from_json(entry["evaluation"])
                except (ValueError, KeyError, TypeError) as error:
                    raise RecordError(f"{path}:{number} is no measurement ({error}); remove the line or the file") from error

    def evaluate(self, candidate: Candidate, problem: Problem, *, target: str, effort: Effort, seed: int) -> Evaluation:
        """See `Evaluator.evaluate`. The purpose is the effort that the search asked for; seeds are fixed by it."""
        key = f"{problem.source_hash[:16]}/{target}/{normalised_hash(candidate)}/{effort.name}"
        with self._lock:
            if key not in self._known:
                spends = effort if self._effort is None else dataclasses.replace(self._effort, timeout_s=effort.timeout_s)
                fixed = 1 if effort.name == "full" else 0
                made = self._inner.evaluate(candidate, problem, target=target, effort=spends, seed=fixed)
                _append(self._path, {"key": key, "evaluation": made.to_json()})
                self._known[key] = made
                self.num_measured += 1
            return dataclasses.replace(self._known[key], candidate_id=candidate.candidate_id)


def compare(
    plan: Plan,
    store: RunStore,
    machinery: Machinery,
    effort: Effort | None = None,
    tell: Callable[[str], None] = lambda _: None,
    recording: Recording | None = None,
) -> list[Search]:
    """Make every search that the results file does not hold yet; return all of them.

    Args:
        effort: See `SharedEvaluator`.
        recording: What the machinery answers from (`evaluation.recorded`), so that nothing is measured and searches say where their numbers come from.

    Raises:
        RecordError: The results file holds searches with another budget or on another target: they cannot be compared.
        AgentsError, ToolsError, KnowledgeError: The set-up fails; what was made is kept.
    """
    made = read(plan.results) if plan.results.exists() else []
    for search in made:
        if (search.budget, search.target) != (plan.config.budget.evaluations, plan.target):
            raise RecordError(
                f"{plan.results} holds searches with {search.budget} evaluations on {search.target}, this comparison has "
                f"{plan.config.budget.evaluations} on {plan.target}; give another --results"
            )
    done = {(search.problem_id, search.strategy, search.seed) for search in made}
    tools = dataclasses.replace(machinery, report=lambda _: None)
    if recording is None:
        shared = SharedEvaluator(machinery.evaluator, plan.results.with_suffix(".evaluations.jsonl"), effort)
        tools = dataclasses.replace(tools, evaluator=shared)
    wanted = [(problem, seed, name) for problem in plan.problems for seed in range(plan.seeds) for name in plan.strategies]
    for number, (problem, seed, name) in enumerate(wanted, start=1):
        if (problem.problem_id, name, seed) in done:
            continue
        search = _search(plan, problem, name, seed, store, tools)
        if recording is not None:
            search = dataclasses.replace(search, environment={**search.environment, **_origin(recording, problem)})
        _append(plan.results, dataclasses.asdict(search))
        made.append(search)
        tell(
            f"[{number}/{len(wanted)}] {problem.problem_id} {name} seed {seed}: fitness {search.fitness:.3f} "
            f"({search.num_evaluations} evaluations, "
            + (f"{shared.num_measured} measured so far)" if recording is None else f"best of the record {recording.best(problem):.3f})")
        )
    keys = {(problem.problem_id, name, seed) for problem, seed, name in wanted}
    return [search for search in made if (search.problem_id, search.strategy, search.seed) in keys]


def _origin(recording: Recording, problem: Problem) -> dict[str, Any]:  # Any: JSON
    """What a search on a recording says about where its numbers come from."""
    measured = [item for item in recording.measurements if item.problem_hash == problem.source_hash]
    there = measured[0].environment if measured else {}
    return {
        "recorded": recording.path.name,
        "recorded_sha256": recording.digest,
        "recorded_candidates": recording.num_candidates(problem),
        "recorded_measurements": len(measured),
        "recorded_best": recording.best(problem),
        "recorded_on": {key: there[key] for key in sorted(there)},
    }


def read(path: Path) -> list[Search]:
    """Read the searches of a results file.

    Raises:
        RecordError: A line is no search of this schema.
    """
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            values = json.loads(line)
            if values["schema"] != SCHEMA:
                raise ValueError(f"schema {values['schema']}")
            found.append(Search(**{**values, "curve": tuple(values["curve"])}))
        except (ValueError, KeyError, TypeError) as error:
            raise RecordError(f"{path}:{number} is no record of a comparison: {error}") from error
    return found


def _search(plan: Plan, problem: Problem, strategy: str, seed: int, store: RunStore, tools: Machinery) -> Search:
    reads_briefs = plan.config.coder != "library"
    frozen = {"max_seeds": 0, "use_siblings": False, "write_back": False, "deep_search": reads_briefs}
    config = dataclasses.replace(plan.config, strategy=strategy, seed=seed, **frozen)  # type: ignore[arg-type]  # fields of these types
    run_id = create_run(store, problem, plan.target, config)
    result = asyncio.run(drive(store, run_id, tools))
    best, curve = 0.0, []
    for node in store.nodes(run_id):
        if node.evaluation.status.value != "lint_error":  # not evaluated, and not counted
            best = max(best, node.fitness)
            curve.append(best)
    published = result["best"]
    return Search(
        problem_id=problem.problem_id,
        strategy=strategy,
        seed=seed,
        target=plan.target,
        budget=plan.config.budget.evaluations or 0,
        fitness=published["fitness"] if published else 0.0,
        curve=tuple(curve),
        candidate_id=published["candidate_id"] if published else "",
        num_evaluations=result["num_evaluations"],
        num_nodes=result["num_nodes"],
        seconds=result["seconds"],
        reason=result["reason"],
        environment={**versions(), "commit": source_commit(), "cores": os.cpu_count()},
    )


def _append(path: Path, values: Mapping[str, Any]) -> None:  # Any: JSON
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(values, sort_keys=True) + "\n")
        file.flush()
        os.fsync(file.fileno())


def paired(searches: Sequence[Search], strategy: str, reference: str) -> dict[str, list[float]]:
    """Return, for each problem, the log ratios of a strategy's fitness to the reference's, paired by seed. What did not pass, or is slower than the baseline, counts as 1.0: the user keeps the baseline."""
    from math import log

    found: dict[str, list[float]] = {}
    by_key = {(search.problem_id, search.seed, search.strategy): max(search.fitness, 1.0) for search in searches}
    for problem_id, seed, name in sorted(by_key):
        if name == strategy and (problem_id, seed, reference) in by_key:
            found.setdefault(problem_id, []).append(log(by_key[problem_id, seed, name] / by_key[problem_id, seed, reference]))
    return found
