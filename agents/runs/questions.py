"""What is asked of the recorded graph of a run: index ranges and recursive queries, never a scan. Functions over an open connection.

Statements that searches repeat are built once. Where few rows are asked for, their order is made here: told to sort, SQLite may walk through all nodes
in that order instead of looking the few up.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from sqlalchemy import BindParameter, Connection, Row, bindparam, func, select

from agents.errors import UnknownNameError
from agents.runs.artifacts import Artifacts
from agents.runs.hashing import error_signature
from agents.runs.records import NodeRecord, NodeSummary, Repair, Spent
from agents.runs.rows import node_record
from agents.runs.tables import CHANGES, EDGES, EVALUATIONS, LEDGER, NODES, PLACES, RUNS, SESSIONS
from agents.strategies.memory_graph import MemoryGraph
from agents.strategies.places import Change, Place, parents_key
from tools.types import Evaluation, Status

_RUN_ID: BindParameter[Any] = bindparam("run_id")
_UNTIL: BindParameter[Any] = bindparam("until")
_LIMIT: BindParameter[Any] = bindparam("limit")
_THIS = RUNS.alias()
_MINE = NODES.c.run_id == _RUN_ID
_RUN = select(RUNS).where(RUNS.c.run_id == _RUN_ID)
_LAST_STEP = select(func.max(NODES.c.step)).where(_MINE)
_NODES_BY_STEP = select(NODES).where(_MINE, NODES.c.step >= bindparam("since"), NODES.c.step < _UNTIL).order_by(NODES.c.step)
_NODES_BY_ID = select(NODES).where(_MINE, NODES.c.node_id.in_(bindparam("node_ids", expanding=True)))
_BY_FITNESS = (NODES.c.fitness.desc(), NODES.c.step)
_BEST_NODES = select(NODES).where(_MINE, NODES.c.fitness > 0).order_by(*_BY_FITNESS).limit(_LIMIT)
_BEST = select(NODES.c.node_id, NODES.c.fitness).where(_MINE, NODES.c.fitness > 0).order_by(*_BY_FITNESS).limit(1)
_WITH_SOURCE = (
    select(NODES.c.node_id)
    .where(_MINE, NODES.c.source_hash == bindparam("source_hash"), NODES.c.step < _UNTIL)
    .order_by(NODES.c.step)
    .limit(1)
)
_SUMMARIES = (
    select(NODES.c.node_id, NODES.c.session_id, NODES.c.round, NODES.c.fitness, NODES.c.status, NODES.c.features)
    .where(_MINE)
    .order_by(NODES.c.step.desc())
    .limit(_LIMIT)
)
_SIBLING_SESSIONS = (
    select(SESSIONS.c.session_id)
    .where(SESSIONS.c.run_id == _RUN_ID, SESSIONS.c.parents_key == bindparam("parents_key"))
    .order_by(SESSIONS.c.round.desc(), SESSIONS.c.sibling.desc())
    .limit(_LIMIT)
)
_OF_SESSIONS = select(NODES.c.step, NODES.c.node_id).where(_MINE, NODES.c.session_id.in_(bindparam("session_ids", expanding=True)))
_WITH_ERROR = NODES.c.error_signature == bindparam("signature")
_FAILURES = select(NODES).where(_WITH_ERROR, _MINE, NODES.c.step < _UNTIL).order_by(NODES.c.step.desc()).limit(_LIMIT)
_MOST_FAILURES = 20
"""Earlier failures of the same kind that are looked at."""
_RUNS_WITH_FAILURE = (
    select(RUNS.c.run_id)
    .where(RUNS.c.created < select(_THIS.c.created).where(_THIS.c.run_id == _RUN_ID).scalar_subquery())
    .where(select(NODES.c.step).where(_WITH_ERROR, NODES.c.run_id == RUNS.c.run_id).exists())
    .order_by(RUNS.c.created.desc())
    .limit(_MOST_FAILURES)
)
_MENDED = (
    select(NODES.c.step, NODES.c.node_id)
    .join(EDGES, (EDGES.c.run_id == NODES.c.run_id) & (EDGES.c.child_id == NODES.c.node_id))
    .where(EDGES.c.run_id == _RUN_ID, EDGES.c.parent_id == bindparam("parent_id"), NODES.c.fitness > 0, NODES.c.step < _UNTIL)
)
_END = 2**31 - 1
"""A step, or a number of rows, that no run reaches: stands for no limit, and is the largest integer that PostgreSQL's columns hold."""


def _up() -> Any:  # Any: a statement over plain tables
    start = select(NODES.c.node_id.label("node_id")).where(_MINE, NODES.c.node_id.in_(bindparam("node_ids", expanding=True)))
    up = start.cte("up", recursive=True)
    up = up.union(select(EDGES.c.parent_id).join(up, EDGES.c.child_id == up.c.node_id).where(EDGES.c.run_id == _RUN_ID))
    return select(up.c.node_id).limit(_LIMIT)


_ANCESTORS = _up()


def run_row(connection: Connection, run_id: str) -> Row[Any]:  # Any: a row of `runs`
    """Return the row of a run by its id or an unambiguous beginning of it; see `RunStore.run`."""
    row = connection.execute(_RUN, {"run_id": run_id}).first()
    if row is not None:
        return row
    beginning = select(RUNS).where(RUNS.c.run_id.startswith(run_id, autoescape=True)).limit(5)
    rows = connection.execute(beginning).all() if run_id else []
    if len(rows) == 1:
        return rows[0]
    if rows:
        raise UnknownNameError(f"several runs begin with {run_id!r}: {', '.join(item.run_id for item in rows)}")
    latest = connection.scalars(select(RUNS.c.run_id).order_by(RUNS.c.created.desc()).limit(5)).all()
    known = f"the latest are {', '.join(latest)}" if latest else "there are none yet; `kevolve run PROBLEM` starts one"
    raise UnknownNameError(f"no run {run_id!r}; {known}")


def num_nodes(connection: Connection, run_id: str) -> int:
    """Return how many nodes are recorded."""
    last = connection.execute(_LAST_STEP, {"run_id": run_id}).scalar()
    return 0 if last is None else int(last) + 1


def nodes(connection: Connection, artifacts: Artifacts, run_id: str, since: int, until: int | None) -> list[NodeRecord]:
    """See `RunStore.nodes`."""
    rows = connection.execute(_NODES_BY_STEP, {"run_id": run_id, "since": since, "until": _END if until is None else until})
    return [node_record(row, artifacts) for row in rows]


def nodes_by_id(connection: Connection, artifacts: Artifacts, run_id: str, node_ids: Sequence[str]) -> list[NodeRecord]:
    """See `RunStore.nodes_by_id`."""
    if not node_ids:
        return []
    rows = connection.execute(_NODES_BY_ID, {"run_id": run_id, "node_ids": list(node_ids)})
    return [node_record(row, artifacts) for row in sorted(rows, key=lambda row: int(row.step))]


def node_with_source(connection: Connection, run_id: str, source_hash: str, until: int | None) -> str | None:
    """See `RunStore.node_with_source`."""
    named = {"run_id": run_id, "source_hash": source_hash, "until": _END if until is None else until}
    found: str | None = connection.execute(_WITH_SOURCE, named).scalar()
    return found


def best_nodes(connection: Connection, artifacts: Artifacts, run_id: str, limit: int) -> list[NodeRecord]:
    """See `RunStore.best_nodes`."""
    return [node_record(row, artifacts) for row in connection.execute(_BEST_NODES, {"run_id": run_id, "limit": limit})]


def best_fitness(connection: Connection, run_id: str) -> tuple[str, float] | None:
    """See `RunStore.best_fitness`."""
    row = connection.execute(_BEST, {"run_id": run_id}).first()
    return (row[0], row[1]) if row is not None else None


def ancestors(connection: Connection, run_id: str, node_ids: Sequence[str], limit: int | None) -> list[str]:
    """See `RunStore.ancestors`."""
    if not node_ids:
        return []
    return list(connection.execute(_ANCESTORS, {"run_id": run_id, "node_ids": list(node_ids), "limit": limit or _END}).scalars())


def siblings(connection: Connection, run_id: str, parents: Sequence[str], limit: int | None, until: int | None) -> list[str]:
    """See `RunStore.siblings`."""
    named = {"run_id": run_id, "parents_key": parents_key(parents), "limit": limit or _END}
    sessions = connection.execute(_SIBLING_SESSIONS, named).scalars().all()
    if not sessions:
        return []
    found = connection.execute(_OF_SESSIONS, {"run_id": run_id, "session_ids": sessions})
    return [node_id for step, node_id in sorted(found, reverse=True) if until is None or step < until][:limit]


def node_summaries(connection: Connection, run_id: str, latest: int | None) -> list[NodeSummary]:
    """See `RunStore.node_summaries`."""
    rows = connection.execute(_SUMMARIES, {"run_id": run_id, "limit": _END if latest is None else latest}).all()
    return [NodeSummary(row[0], row[1], row[2], row[3], Status(row[4]), row[5]) for row in reversed(rows)]


def sessions_since(connection: Connection, run_id: str, node: NodeRecord, limit: int) -> int:
    """See `RunStore.sessions_since`."""
    mine = (NODES.c.run_id == run_id, NODES.c.step > node.step, NODES.c.session_id != node.session_id)
    later = select(NODES.c.session_id).where(*mine).distinct().limit(limit)
    return connection.execute(select(func.count()).select_from(later.subquery())).scalar() or 0


def repairs(connection: Connection, artifacts: Artifacts, run_id: str, evaluation: Evaluation, known: int, limit: int) -> list[Repair]:
    """See `RunStore.repairs`."""
    signature = error_signature(evaluation)
    found: list[Repair] = []
    for before in islice(_failures(connection, run_id, signature, known), _MOST_FAILURES) if signature else ():
        named = {"run_id": before.run_id, "parent_id": before.node_id, "until": known if before.run_id == run_id else _END}
        mended = min(connection.execute(_MENDED, named).tuples(), default=None)
        if mended is not None:
            (after,) = nodes_by_id(connection, artifacts, before.run_id, [mended[1]])
            found.append(Repair(before.run_id, node_record(before, artifacts), after))
        if len(found) == limit:
            break
    return found


def _failures(connection: Connection, run_id: str, signature: str, known: int) -> Iterator[Row[Any]]:  # Any: rows of `nodes`
    """Yield the nodes with an error signature: of this run before logical step `known`, then of earlier runs, in each the latest first."""
    named = {"signature": signature, "run_id": run_id, "until": known, "limit": _MOST_FAILURES}
    yield from connection.execute(_FAILURES, named).all()
    earlier = connection.execute(_RUNS_WITH_FAILURE, {"signature": signature, "run_id": run_id}).scalars().all()
    for other in earlier:
        yield from connection.execute(_FAILURES, {**named, "run_id": other, "until": _END}).all()


def find_node(connection: Connection, artifacts: Artifacts, prefix: str) -> tuple[str, NodeRecord]:
    """See `RunStore.find_node`."""
    rows = connection.execute(select(NODES).where(NODES.c.node_id.startswith(prefix, autoescape=True)).limit(2)).all()
    if len(rows) != 1:
        raise UnknownNameError(
            f"{'several nodes begin' if rows else 'no run or node begins'} with {prefix!r}; `kevolve runs` lists the runs"
        )
    return rows[0].run_id, node_record(rows[0], artifacts)


def changes(connection: Connection, run_id: str, place_id: str | None = None, until: int | None = None) -> list[Change]:
    """Return the change log of a run in order, of one place or of all, up to logical step `until`."""
    query = select(CHANGES.c.step, CHANGES.c.place_id, CHANGES.c.field, CHANGES.c.value).where(CHANGES.c.run_id == run_id)
    if place_id is not None:
        query = query.where(CHANGES.c.place_id == place_id)
    if until is not None:
        query = query.where(CHANGES.c.step <= until)
    return [Change(*row) for row in connection.execute(query.order_by(CHANGES.c.change_id))]


def graph_as_of(connection: Connection, run_id: str, step: int) -> MemoryGraph:
    """See `RunStore.graph_as_of`."""
    graph = MemoryGraph()
    fixed = [PLACES.c[name] for name in ("place_id", "parents", "fitness", "position", "cell", "island", "generation")]
    made = select(*fixed).where(PLACES.c.run_id == run_id, PLACES.c.kind == "node", PLACES.c.position <= step)
    rows = connection.execute(made.order_by(PLACES.c.position))
    graph.put(Place(row[0], "node", tuple(row[1]), *row[2:]) for row in rows)
    graph.apply(changes(connection, run_id, until=step))
    return graph


def counted(connection: Connection, run_id: str) -> Spent:
    """See `RunStore.counted`."""
    mine = EVALUATIONS.c.run_id == run_id
    purposes = select(EVALUATIONS.c.purpose, func.count()).where(mine).group_by(EVALUATIONS.c.purpose)
    counts: dict[str, int] = dict(connection.execute(purposes).tuples().all())
    device = connection.execute(select(func.sum(EVALUATIONS.c.seconds)).where(mine)).scalar()
    summed = select(LEDGER.c.kind, func.sum(LEDGER.c.amount)).where(LEDGER.c.run_id == run_id).group_by(LEDGER.c.kind)
    ledger: dict[str, float] = dict(connection.execute(summed).tuples().all())
    return Spent(
        evaluations=sum(counts.values()),
        remeasurements=counts.get("final", 0),
        seconds=run_row(connection, run_id).seconds,
        device_seconds=float(device or 0.0),
        tokens=int(ledger.get("tokens", 0)),
        dollars=float(ledger.get("dollars", 0.0)),
    )
