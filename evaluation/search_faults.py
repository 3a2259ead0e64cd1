"""Kill searches with SIGKILL at random points, resume them until they end, and compare each with an unbroken one, on SQLite and PostgreSQL.

    python -m evaluation.search_faults --out evaluation/results/search-faults
    python -m evaluation.search_faults --out evaluation/results/search-faults --url postgresql://user@host/name

Every life of a search is a process of its own. It dies where a transaction of the run store begins or is about to be committed (the n-th since its start, n
drawn at random), or, every third time, after a random while, wherever it is then: in the graph's checkpoints, in an artifact, between two writes. Coder and evaluator
work on a synthetic landscape (`evaluation.landscapes`) and take no time, so that a search is nothing but bookkeeping. A search survives if its graph, its best
candidate, its counts and its end equal those of the unbroken one, and if the audit of the store finds nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import random
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import Engine

import agents.graph
from agents.coders.base import CoderTask, Draft
from agents.config import RunConfig
from agents.driver import Machinery, create_run, drive, versions
from agents.runs.audit import audit
from agents.runs.store import RunStore
from agents.strategies.registry import STRATEGIES, create_strategy
from agents.types import Budget
from evaluation.landscapes import child, draft, smooth
from tools.receipts import source_commit
from tools.types import Candidate, Composition, Effort, Evaluation, Evidence, Interval, Problem, Status, Timing, WorkloadEvaluation

assert agents.graph  # imported once, before the forks

PROBLEM = Problem("synthetic/smooth", "smooth", "class Model: ...\ndef get_inputs(): ...\ndef get_init_inputs(): ...\n")
CROWD = 8
"""Sessions at the same time in the crowded cases."""
_MOST_LIVES = 20


class PointCoder:
    """Walks on a landscape of `evaluation.landscapes`; a function of its task alone."""

    async def write(self, task: CoderTask) -> Draft:
        """See `Coder.write`."""
        rng = task.rng()
        parents = [tuple(json.loads(parent.candidate.source.partition("=")[2])) for parent in task.parents]
        point = child(parents, rng) if parents else draft(rng)
        return Draft(Candidate(f"POINT = {list(point)}\n", "torch"), f"try {point}")

    async def signature(self, problem: Problem, target: str) -> str:
        """See `Coder.signature`."""
        return "point"


class PointEvaluator:
    """Looks the fitness up; points with a last coordinate of 0 are wrong."""

    def evaluate(self, candidate: Candidate, problem: Problem, *, target: str, effort: Effort, seed: int) -> Evaluation:
        """See `Evaluator.evaluate`."""
        point = tuple(json.loads(candidate.source.partition("=")[2]))
        if point[-1] == 0:
            return Evaluation(
                candidate.candidate_id,
                problem.problem_id,
                target,
                Evidence.SIMULATED,
                Status.WRONG_VALUES,
                "the last coordinate is 0",
                seconds=0.001,
            )
        fitness = 0.01 + smooth(point)
        speedup = {"compiled": Interval(fitness, fitness, fitness)}
        workload = WorkloadEvaluation("default", Timing(1 / fitness, (1 / fitness,)), {"compiled": Timing(1.0, (1.0,))}, speedup)
        composition = Composition.CUSTOM if point[0] > 3 else Composition.MIXED
        return Evaluation(
            candidate.candidate_id,
            problem.problem_id,
            target,
            Evidence.SIMULATED,
            Status.PASSED,
            "",
            (workload,),
            1 / fitness,
            speedup,
            composition,
            seconds=0.001,
        )


class Reaper:
    """Counts beginnings and ends of transactions in this process, and ends it at the n-th of them.

    Args:
        dies_at: Which; 0: never.
    """

    def __init__(self, dies_at: int = 0) -> None:
        self.count, self._dies_at = 0, dies_at
        event.listen(Engine, "begin", self._strike)
        event.listen(Engine, "commit", self._strike)

    def _strike(self, _connection: object) -> None:
        self.count += 1
        if self.count == self._dies_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def close(self) -> None:
        """Stop counting."""
        event.remove(Engine, "begin", self._strike)
        event.remove(Engine, "commit", self._strike)


@dataclass(frozen=True)
class Case:
    """One search that was killed again and again."""

    database: str
    strategy: str
    width: int
    """Sessions at the same time."""
    evaluations: int
    seed: int
    kills: int
    """Lives that ended by SIGKILL."""
    kills_by_time: int
    """Those of them that ended after a random while, the others at a transaction."""
    transactions: int
    """Beginnings and ends of transactions in the unbroken search."""
    nodes: int
    differences: tuple[str, ...]
    """What is not as in the unbroken search; empty if it survived."""
    seconds: float


def configuration(strategy: str, seed: int, width: int, evaluations: int) -> RunConfig:
    """Return what is searched with."""
    return RunConfig(
        strategy=strategy,
        coder="points",
        seed=seed,
        budget=Budget(evaluations=evaluations),
        width=width,
        evaluator_slots=width,
        use_knowledge=False,
    )


def live(home: Path, url: str | None, config: RunConfig) -> None:
    """Begin the search of this home, or go on with it."""
    machinery = Machinery(PointCoder(), PointEvaluator(), lint=lambda _: ())
    with RunStore(home, url) as store:
        runs = store.runs()
        if runs and runs[0].result is not None:
            return
        if runs:
            run_id = runs[0].run_id
            store.acquire(run_id)
        else:
            run_id = create_run(store, PROBLEM, "cpu", config)
        asyncio.run(drive(store, run_id, machinery))


def kill_until_it_ends(
    home: Path, url: str | None, config: RunConfig, kills: int, transactions: int, rng: random.Random
) -> tuple[int, int]:
    """Let the search live and die until it ends; return the kills, and how many of them came by time.

    The first `kills` lives reach a random transaction each, on average `1 / kills` of the way; then lives are longer and longer.
    """
    struck = by_time = lives = 0
    while True:
        lives += 1
        longer = 1 + max(0, lives - kills) ** 2
        dies_at = rng.randint(2, max(3, 2 * longer * transactions // kills))
        delay = rng.uniform(0.02, 0.5) * longer if lives % 3 == 0 else 0.0
        pid = os.fork()
        if pid == 0:
            code = 0
            try:
                if delay:
                    threading.Timer(delay, os.kill, (os.getpid(), signal.SIGKILL)).start()
                else:
                    Reaper(dies_at)
                live(home, url, config)
            except BaseException:
                traceback.print_exc()
                code = 1
            os._exit(code)
        _, status = os.waitpid(pid, 0)
        if os.WIFEXITED(status):
            if os.WEXITSTATUS(status):
                raise RuntimeError(f"life {lives} ended with an error, see above")
            return struck, by_time
        if lives > _MOST_LIVES * kills:
            raise RuntimeError(f"the search did not end in {lives} lives")
        struck += 1
        by_time += bool(delay)


def shape(store: RunStore, run_id: str) -> list[tuple[object, ...]]:
    """Return a run's graph with its statistics, without the ids that contain the run's own."""
    nodes = store.nodes(run_id)
    step = {node.node_id: node.step for node in nodes}
    graph = store.graph(run_id)
    found: list[tuple[object, ...]] = []
    for node in nodes:
        place = graph.place(node.node_id)
        statistics = (place.children, place.alive_children, place.visits, round(place.total, 9), place.best, place.exhaustion, place.island)
        parents = tuple(step[parent] for parent in node.parents)
        origin = (node.step, node.round, node.session_id, node.attempt, parents, node.source_hash)
        found.append((*origin, node.evaluation.status.value, node.fitness, sorted(node.algorithm.items()), statistics))
    return found


def differences(killed: RunStore, unbroken: RunStore) -> list[str]:
    """Return what a search that was killed has otherwise than the unbroken one, in words."""
    (one,), (other,) = killed.runs(), unbroken.runs()
    found = [f"audit: {problem}" for problem in audit(killed, one)]
    mine, theirs = shape(killed, one.run_id), shape(unbroken, other.run_id)
    if mine != theirs:
        at = next((number for number, (a, b) in enumerate(zip(mine, theirs, strict=False)) if a != b), min(len(mine), len(theirs)))
        found.append(f"graph: {len(mine)} nodes for {len(theirs)}, the first difference at step {at}")
    a, b = one.result or {}, other.result or {}
    for name in ("num_evaluations", "num_nodes", "reason", "status"):
        if a.get(name) != b.get(name):
            found.append(f"{name}: {a.get(name)!r} for {b.get(name)!r}")
    if _best(a) != _best(b):
        found.append(f"best: {_best(a)!r} for {_best(b)!r}")
    return found


def _best(result: Mapping[str, Any]) -> object:  # Any: JSON
    best = result.get("best") or {}
    return best.get("candidate_id"), best.get("fitness")


def examine(scratch: Path, url: str | None, strategy: str, width: int, evaluations: int, kills: int, seed: int) -> Case:
    """Make one case."""
    began = time.monotonic()
    config = configuration(strategy, seed, width, evaluations)
    reaper = Reaper()
    live(scratch / "unbroken", None, config)
    reaper.close()
    rng = random.Random(f"{seed}/{strategy}/{width}")
    with _Database(url) as place:
        struck, by_time = kill_until_it_ends(scratch / "killed", place, config, kills, reaper.count, rng)
        with RunStore(scratch / "killed", place) as killed, RunStore(scratch / "unbroken") as unbroken:
            found = differences(killed, unbroken)
            (run,) = killed.runs()
            nodes = killed.num_nodes(run.run_id)
            database = killed.url.partition(":")[0].partition("+")[0]
    return Case(
        database, strategy, width, evaluations, seed, struck, by_time, reaper.count, nodes, tuple(found), round(time.monotonic() - began, 1)
    )


class _Database:
    """A fresh database beside the given one, dropped afterwards; None for SQLite in the home."""

    def __init__(self, url: str | None) -> None:
        self._url = url
        self._name = f"faults_{os.getpid()}_{time.monotonic_ns()}"

    def __enter__(self) -> str | None:
        if self._url is None:
            return None
        self._run(f"CREATE DATABASE {self._name}")
        from sqlalchemy.engine import make_url

        return make_url(self._url).set(database=self._name).render_as_string(hide_password=False)

    def __exit__(self, *exc: object) -> None:
        if self._url is not None:
            self._run(f"DROP DATABASE {self._name} WITH (FORCE)")

    def _run(self, statement: str) -> None:
        import psycopg

        assert self._url is not None
        with psycopg.connect(self._url, autocommit=True) as connection:
            connection.execute(statement.encode())


def report(cases: Sequence[Mapping[str, Any]]) -> str:  # Any: JSON
    """Return the report as Markdown."""
    lines = [
        "# Searches killed at random points",
        "",
        "Generated by `python -m evaluation.search_faults`; every number comes from `records.jsonl`. Survived: graph with statistics, best candidate, counts and end equal "
        "those of the unbroken search, and the audit finds nothing.",
        "",
        "| database | strategy | sessions at a time | evaluations | kills (by time) | transactions | nodes | survived |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for case in cases:
        survived = "yes" if not case["differences"] else f"no: {'; '.join(case['differences'])}"
        lines.append(
            f"| {case['database']} | {case['strategy']} | {case['width']} | {case['evaluations']} | {case['kills']} ({case['kills_by_time']}) | "
            f"{case['transactions']} | {case['nodes']} | {survived} |"
        )
    total = sum(case["kills"] for case in cases)
    lines += ["", f"{sum(not case['differences'] for case in cases)} of {len(cases)} searches survived {total} kills."]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run the command; exit code 1 if a search did not survive."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50, help="of each search, at least")
    parser.add_argument("--evaluations", type=int, default=60, help="of each search")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--strategies", default=",".join(sorted(STRATEGIES)))
    parser.add_argument("--url", help="a PostgreSQL database whose user may create others, in place of SQLite")
    parser.add_argument("--out", type=Path, required=True, help="directory; cases that its records hold already are not made again")
    chosen = parser.parse_args()
    names = chosen.strategies.split(",")
    for name in names:
        create_strategy(name)
    path = chosen.out / "records.jsonl"
    chosen.out.mkdir(parents=True, exist_ok=True)
    known = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []
    database = "postgresql" if chosen.url else "sqlite"
    done = {(case["database"], case["strategy"], case["width"]) for case in known}
    for strategy, width in [(name, 1) for name in names] + [(name, CROWD) for name in names if name != "linear"]:
        if (database, strategy, width) in done:
            continue
        with tempfile.TemporaryDirectory(prefix="search-faults-") as scratch:
            case = examine(Path(scratch), chosen.url, strategy, width, chosen.evaluations, chosen.kills, chosen.seed)
        record = {
            **asdict(case),
            "machine": f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}",
            "versions": versions(),
            "commit": source_commit(),
        }
        known.append(record)
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record, sort_keys=True) + "\n")
        sys.stderr.write(
            f"{database} {strategy} x{width}: {case.kills} kills, {'good' if not case.differences else case.differences} in {case.seconds} s\n"
        )
        (chosen.out / "report.md").write_text(report(known), encoding="utf-8")
    return 1 if any(case["differences"] for case in known) else 0


if __name__ == "__main__":
    sys.exit(main())
