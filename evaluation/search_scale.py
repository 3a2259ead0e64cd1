"""How the run store and the outer loop behave with 100,000 nodes: query, insert and per-node times, and memory, on SQLite and PostgreSQL.

    python -m evaluation.search_scale --nodes 100000 --out evaluation/results/search-scale/sqlite.json
    python -m evaluation.search_scale --nodes 100000 --url postgresql://user@host/name --out evaluation/results/search-scale/postgresql.json

The graph is grown by the real statistics code in memory (drafts, expansions and crossovers at random) and written in bulk; what is measured afterwards
goes through the public functions of the store, and through whole searches with a coder and an evaluator that take no time.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import gc
import json
import os
import platform
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine, insert

import agents.graph
import agents.runs.checkpoints
from agents.coders.base import CoderTask, Draft
from agents.config import RunConfig
from agents.driver import Machinery, create_run, drive, versions
from agents.runs.hashing import derived_id
from agents.runs.records import NodeRecord, Outcome, SessionRecord
from agents.runs.store import RunStore
from agents.runs.stored_graph import columns_of
from agents.runs.tables import CHANGES, EDGES, NODES, PLACES, SESSIONS
from agents.strategies.base import Needs
from agents.strategies.places import Place, Settled, Settling, cell_of, parents_key
from agents.strategies.registry import STRATEGIES, create_strategy
from agents.types import Budget, Memory
from tools.receipts import source_commit
from tools.types import Candidate, Composition, Effort, Evaluation, Evidence, Interval, Problem, Status, Timing, WorkloadEvaluation

assert agents.graph and agents.runs.checkpoints  # imported before anything is timed
PROBLEM = Problem(problem_id="synthetic/null", name="null", source="class Model: ...\ndef get_inputs(): ...\ndef get_init_inputs(): ...\n")
NEEDS = Needs(visits=True, islands=True)
_BATCH = 2_000


class NullCoder:
    """Writes a candidate that was never there before, at once."""

    def __init__(self) -> None:
        self._count = 0

    async def write(self, task: CoderTask) -> Draft:
        """See `Coder.write`."""
        self._count += 1
        return Draft(Candidate(source=f"VALUE = {task.seed}\nNUMBER = {self._count}\n", language="torch"), "another one")

    async def signature(self, problem: Problem, target: str) -> str:
        """See `Coder.signature`."""
        return "null"


class NullEvaluator:
    """Passes everything at once, with a fitness drawn from the candidate's own hash."""

    def evaluate(self, candidate: Candidate, problem: Problem, *, target: str, effort: Effort, seed: int) -> Evaluation:
        """See `Evaluator.evaluate`."""
        return evaluation_of(candidate, 1.0 + int(candidate.candidate_id[:6], 16) / 2**24)


def evaluation_of(candidate: Candidate, fitness: float) -> Evaluation:
    """Return a passed evaluation with raw samples, as large as a real one."""
    samples = tuple(1.0 / fitness + 0.001 * number for number in range(24))
    speedup = {"eager": Interval(2 * fitness, 1.9 * fitness, 2.1 * fitness), "compiled": Interval(fitness, 0.95 * fitness, 1.05 * fitness)}
    baselines = {"eager": Timing(2.0, samples), "compiled": Timing(1.0, samples)}
    workload = WorkloadEvaluation("default", Timing(1.0 / fitness, samples), baselines, speedup)
    return Evaluation(
        candidate_id=candidate.candidate_id,
        problem_id=PROBLEM.problem_id,
        target="cpu",
        evidence=Evidence.MEASURED,
        status=Status.PASSED,
        workloads=(workload,),
        latency_ms=1.0 / fitness,
        speedup=speedup,
        composition=Composition.CUSTOM,
        seconds=0.001,
    )


def fill(store: RunStore, run_id: str, num_nodes: int, seed: int = 0) -> list[str]:
    """Give a run so many nodes, with as many drafts as progressive widening gives the root (1.5 times the square root) and one crossover in ten; return their ids."""
    rng = random.Random(seed)
    settling = Settling(lambda _: None)
    ids: list[str] = []
    artifact = store.artifacts.write("VALUE = 0\n")
    engine = create_engine(store.url)
    rows: dict[Any, list[dict[str, Any]]] = {NODES: [], EDGES: [], SESSIONS: []}  # Any: table classes, column values
    template = evaluation_of(Candidate(source="VALUE = 0\n", language="torch"), 1.0).to_json()
    num_drafts = 0
    for step in range(num_nodes):
        parents: tuple[str, ...] = ()
        if ids and num_drafts >= 1.5 * (step + 1) ** 0.5:
            chosen = [ids[int(len(ids) * rng.random())] for _ in range(2 if rng.random() < 0.1 else 1)]
            parents = tuple(dict.fromkeys(chosen))
        num_drafts += not parents
        fitness = max(0.0, rng.gauss(1.0, 0.4))
        node_id, session_id = derived_id(run_id, step)[:12], f"r{step:06d}-000"
        features = {"composition": rng.choice(["custom", "mixed", "library"]), "roofline": str(rng.randrange(4))}
        place = Place(node_id, "node", parents, fitness, step, cell_of(features), rng.randrange(3), 0)
        settling.settle(Settled(parents, step, place, has_island=True, is_backed_up=True))
        ids.append(node_id)
        rows[NODES].append(_node(run_id, node_id, step, session_id, parents, fitness, features, artifact, template))
        rows[EDGES] += [{"run_id": run_id, "child_id": node_id, "parent_id": parent} for parent in parents]
        rows[SESSIONS].append(_session(run_id, session_id, step, parents))
        if len(ids) % _BATCH == 0 or step == num_nodes - 1:
            with engine.begin() as connection:
                for table, values in rows.items():
                    if values:
                        connection.execute(insert(table), values)
                    values.clear()
                connection.execute(insert(CHANGES), [{"run_id": run_id, **dataclasses.asdict(change)} for change in settling.changes])
                settling.changes.clear()
    with engine.begin() as connection:
        places = [{"run_id": run_id, **columns_of(place)} for place in settling.places.values()]
        for start in range(0, len(places), _BATCH):
            connection.execute(insert(PLACES), places[start : start + _BATCH])
        if engine.dialect.name == "postgresql":
            connection.exec_driver_sql("ANALYZE")
    engine.dispose()
    return ids


def _node(
    run_id: str,
    node_id: str,
    step: int,
    session_id: str,
    parents: tuple[str, ...],
    fitness: float,
    features: dict[str, str],
    artifact: str,
    evaluation: dict[str, Any],  # Any: JSON
) -> dict[str, Any]:  # Any: column values
    return {
        "run_id": run_id,
        "node_id": node_id,
        "step": step,
        "round": step,
        "session_id": session_id,
        "attempt": 1,
        "parents": list(parents),
        "candidate_id": node_id,
        "source_hash": derived_id("source", step),
        "artifact": artifact,
        "candidate": {"language": "torch", "build_options": {}, "provenance": {}},
        "status": "passed" if fitness > 0 else "wrong_values",
        "fitness": fitness,
        "evidence": "measured",
        "evaluation": evaluation,
        "notes": "one of many",
        "chunk_ids": [],
        "diagnosis": {},
        "algorithm": {},
        "features": features,
        "error_signature": "",
    }


def _session(run_id: str, session_id: str, step: int, parents: tuple[str, ...]) -> dict[str, Any]:  # Any: column values
    return {
        "run_id": run_id,
        "session_id": session_id,
        "round": step,
        "sibling": 0,
        "parents": list(parents),
        "memory": "both",
        "algorithm": {},
        "outcome": "passed",
        "parents_key": parents_key(parents),
    }


def timed(calls: Iterable[Callable[[], object]]) -> dict[str, float]:
    """Time each call; return median, 95th percentile and worst in ms, and their number."""
    times = []
    for call in calls:
        start = time.perf_counter()
        call()
        times.append(1e3 * (time.perf_counter() - start))
    times.sort()
    return {
        "median_ms": round(statistics.median(times), 3),
        "p95_ms": round(times[int(0.95 * (len(times) - 1))], 3),
        "worst_ms": round(times[-1], 3),
        "num_calls": len(times),
    }


def questions(store: RunStore, run_id: str, ids: list[str], repeats: int) -> dict[str, Any]:  # Any: JSON
    """Ask what a search asks, at random nodes."""
    rng = random.Random(1)
    graph = store.graph(run_id)
    some = [rng.choice(ids) for _ in range(repeats)]
    found: dict[str, Any] = {
        "frontier_10": timed((lambda: graph.frontier(10)) for _ in some),
        "global_best": timed((lambda: store.best_fitness(run_id)) for _ in some),
        "best_node_whole": timed((lambda: store.best_nodes(run_id, 1)) for _ in some),
        "ancestors": timed(partial(store.ancestors, run_id, [node]) for node in some),
        "siblings_64": timed(partial(store.siblings, run_id, (node,), 64) for node in some),
        "siblings_of_drafts_64": timed((lambda: store.siblings(run_id, (), 64)) for _ in some[:20]),
        "children_of_a_node": timed(partial(graph.children, node) for node in some),
        "children_of_the_root": timed((lambda: graph.children("")) for _ in some[:20]),
        "island": timed((lambda: graph.island(0)) for _ in some[:20]),
        "state_as_of_step_1000": timed((lambda: store.graph_as_of(run_id, 1000)) for _ in some[:3]),
    }
    for name in sorted(STRATEGIES):
        strategy = create_strategy(name)
        found[f"select_{name}"] = timed(partial(strategy.select, graph, rng, 4) for _ in some[:20])
    return found


def inserts(store: RunStore, run_id: str, ids: list[str], repeats: int) -> dict[str, float]:
    """Record so many rounds of one session with one node each."""
    rng = random.Random(2)

    def record(number: int) -> Callable[[], object]:
        candidate = Candidate(source=f"VALUE = {number}\n", language="torch")
        parents = (rng.choice(ids),)
        session_id = f"x{number:06d}"
        evaluation = evaluation_of(candidate, 1.0)
        artifact = store.artifacts.write(candidate.source)
        node = NodeRecord(
            f"new{number}", 0, number, session_id, 1, parents, candidate, derived_id("new", number), artifact, evaluation, "", (), {}, {}
        )
        session = SessionRecord(session_id, 10**6 + number, 0, parents, Memory.BOTH, {}, Outcome.PASSED)
        return lambda: store.record_round(run_id, [session], [node], NEEDS)

    return timed([record(number) for number in range(repeats)])


def overhead(store: RunStore, run_id: str, config: RunConfig) -> dict[str, Any]:  # Any: JSON
    """Drive a run with a coder and an evaluator that take no time; return time per node and memory along the way."""
    memory: list[tuple[int, float]] = []
    before = store.num_nodes(run_id)
    seen = 0

    def watch(event: Any) -> None:  # Any: agents.runs.records.Event
        nonlocal seen
        if event.kind == "recorded":
            seen += 1
            if seen % 100 == 0:
                gc.collect()
                memory.append((event.data["nodes"], round(resident_mb(), 1)))

    start = time.perf_counter()
    cpu = time.process_time()
    asyncio.run(drive(store, run_id, Machinery(coder=NullCoder(), evaluator=NullEvaluator(), lint=lambda _: (), report=watch)))
    made = store.num_nodes(run_id) - before
    return {
        "nodes_before": before,
        "nodes_made": made,
        "wall_ms_per_node": round(1e3 * (time.perf_counter() - start) / made, 2),
        "processor_ms_per_node": round(1e3 * (time.process_time() - cpu) / made, 2),
        "resident_mb": memory,
    }


def settings(url: str) -> dict[str, str]:
    """Return what the durability of PostgreSQL's commits depends on; empty for SQLite, where the store sets it."""
    engine = create_engine(url)
    if engine.dialect.name != "postgresql":
        return {}
    with engine.connect() as connection:
        found = {
            name: str(connection.exec_driver_sql(f"SHOW {name}").scalar()) for name in ("fsync", "synchronous_commit", "server_version")
        }
    engine.dispose()
    return found


def resident_mb() -> float:
    """Memory of this process, in MB (field `VmRSS` of /proc/self/status)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0


def measure(home: Path, url: str | None, num_nodes: int, repeats: int, driven: int) -> dict[str, Any]:  # Any: JSON
    """Fill a store and measure it."""
    config = RunConfig(strategy="mcts", coder="null", budget=Budget(evaluations=driven), use_knowledge=False)
    with RunStore(home, url) as store:
        empty = overhead(store, create_run(store, PROBLEM, "cpu", config), config)
        run_id = create_run(store, PROBLEM, "cpu", config)
        start = time.perf_counter()
        ids = fill(store, run_id, num_nodes)
        filled_s = time.perf_counter() - start
        asked = questions(store, run_id, ids, repeats)
        inserted = inserts(store, run_id, ids, repeats)
        full = overhead(store, run_id, config)
        return {
            "nodes": num_nodes,
            "database": store.url.partition(":")[0],
            "settings": settings(store.url),
            "fill_s": round(filled_s, 1),
            "questions": asked,
            "insert_node": inserted,
            "search_from_empty": empty,
            "search_on_top": full,
            "load_average": os.getloadavg(),
            "cores": os.cpu_count(),
            "machine": platform.machine(),
            "versions": versions(),
            "commit": source_commit(),
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }


def main() -> None:
    """Parse, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--driven", type=int, default=400, help="evaluations of each of the two searches without work")
    parser.add_argument("--url", help="database; default: SQLite in a temporary directory")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        record = measure(Path(home), options.url, options.nodes, options.repeats, options.driven)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
