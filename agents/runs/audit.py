"""Check that what a run store says of a run hangs together: sources match their digests, statistics follow from the sessions, totals from their entries."""

from __future__ import annotations

from pathlib import Path

from agents.errors import RunStoreError
from agents.runs.records import NodeRecord, RunRecord
from agents.runs.store import RunStore, replayed
from agents.strategies.memory_graph import MemoryGraph
from agents.strategies.registry import create_strategy


def audit(store: RunStore, record: RunRecord) -> list[str]:
    """Return what is wrong with a run, one sentence each; empty if it is in order."""
    run_id = record.run_id
    wrong: list[str] = []
    known: set[str] = set()
    num_nodes = store.num_nodes(run_id)
    for start in range(0, num_nodes, 100):
        for node in _readable(store, run_id, start, min(start + 100, num_nodes), wrong):
            wrong += [f"node {node.node_id} has the unknown parent {parent}" for parent in node.parents if parent not in known]
            known.add(node.node_id)
            receipt = node.evaluation.receipt
            if receipt and not Path(receipt).is_file():
                wrong.append(f"the receipt of node {node.node_id} is gone: {receipt}")
    budget = record.config["budget"]["evaluations"]
    spent, counted = store.spent(run_id), store.counted(run_id)
    if budget is not None and spent.evaluations > budget:
        wrong.append(f"{spent.evaluations} evaluations were made of a budget of {budget}")
    for name in ("evaluations", "remeasurements", "tokens"):
        if getattr(spent, name) != getattr(counted, name):
            wrong.append(f"{name}: the running total says {getattr(spent, name)}, the entries {getattr(counted, name)}")
    strategy = create_strategy(record.strategy, record.config["strategy_options"])
    expected = MemoryGraph()
    expected.put(replayed(store, run_id, strategy.needs))
    for place in store.graph_as_of(run_id, num_nodes).nodes:
        should = expected.places.get(place.place_id)
        if should is None or (place.children, place.visits) != (should.children, should.visits):
            wrong.append(f"the statistics of node {place.place_id} do not follow from the sessions")
    return wrong


def _readable(store: RunStore, run_id: str, since: int, until: int, wrong: list[str]) -> list[NodeRecord]:
    try:
        return store.nodes(run_id, since, until)
    except RunStoreError as error:
        wrong.append(str(error))
        return []
