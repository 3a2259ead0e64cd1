"""What is asked of the recorded graph of a run: index ranges and recursive queries, never a scan. Functions over an open database session."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, func, select
from sqlalchemy.orm import Session

from agents.errors import UnknownNameError
from agents.runs.artifacts import Artifacts
from agents.runs.hashing import error_signature
from agents.runs.models import ChangeRow, EdgeRow, EvaluationRow, LedgerRow, NodeRow, PlaceRow, RunRow, SessionRow
from agents.runs.records import NodeRecord, NodeSummary, Repair, Spent
from agents.runs.rows import node_record
from agents.strategies.memory_graph import MemoryGraph
from agents.strategies.places import Change, Place, parents_key
from tools.types import Evaluation, Status

_NODES: Any = NodeRow.__table__  # Any: SQLAlchemy types a mapped class's table as what can be selected from
_LAST_STEP = select(func.max(_NODES.c.step)).where(_NODES.c.run_id == bindparam("run_id"))


def run_row(session: Session, run_id: str) -> RunRow:
    """Return the row of a run by its id or an unambiguous beginning of it; see `RunStore.run`."""
    row = session.get(RunRow, run_id)
    if row is not None:
        return row
    rows = list(session.scalars(select(RunRow).where(RunRow.run_id.startswith(run_id, autoescape=True)).limit(5))) if run_id else []
    if len(rows) == 1:
        return rows[0]
    if rows:
        raise UnknownNameError(f"several runs begin with {run_id!r}: {', '.join(item.run_id for item in rows)}")
    latest = list(session.scalars(select(RunRow.run_id).order_by(RunRow.created.desc()).limit(5)))
    known = f"the latest are {', '.join(latest)}" if latest else "there are none yet; `kevolve run PROBLEM` starts one"
    raise UnknownNameError(f"no run {run_id!r}; {known}")


def num_nodes(connection: Connection, run_id: str) -> int:
    """Return how many nodes are recorded."""
    last = connection.execute(_LAST_STEP, {"run_id": run_id}).scalar()
    return 0 if last is None else int(last) + 1


def ancestors(session: Session, run_id: str, node_ids: Sequence[str], limit: int | None) -> list[str]:
    """See `RunStore.ancestors`."""
    if not node_ids:
        return []
    start = select(NodeRow.node_id.label("node_id")).where(NodeRow.run_id == run_id, NodeRow.node_id.in_(node_ids))
    up = start.cte("up", recursive=True)
    up = up.union(select(EdgeRow.parent_id).join(up, EdgeRow.child_id == up.c.node_id).where(EdgeRow.run_id == run_id))
    return list(session.scalars(select(up.c.node_id).limit(limit)))


def siblings(session: Session, run_id: str, parents: Sequence[str], limit: int | None, until: int | None) -> list[str]:
    """See `RunStore.siblings`."""
    chosen = (
        select(SessionRow.session_id)
        .where(SessionRow.run_id == run_id, SessionRow.parents_key == parents_key(parents))
        .order_by(SessionRow.round.desc(), SessionRow.sibling.desc())
        .limit(limit)
    )
    query = select(NodeRow.step, NodeRow.node_id).where(NodeRow.run_id == run_id, NodeRow.session_id.in_(session.scalars(chosen).all()))
    found = session.execute(query if until is None else query.where(NodeRow.step < until)).tuples().all()
    return [node_id for _, node_id in sorted(found, reverse=True)][:limit]


def node_summaries(session: Session, run_id: str, latest: int | None) -> list[NodeSummary]:
    """See `RunStore.node_summaries`."""
    columns = (NodeRow.node_id, NodeRow.session_id, NodeRow.round, NodeRow.fitness, NodeRow.status, NodeRow.features)
    rows = session.execute(select(*columns).where(NodeRow.run_id == run_id).order_by(NodeRow.step.desc()).limit(latest)).all()
    return [NodeSummary(row[0], row[1], row[2], row[3], Status(row[4]), row[5]) for row in reversed(rows)]


def sessions_since(session: Session, run_id: str, node: NodeRecord, limit: int) -> int:
    """See `RunStore.sessions_since`."""
    later = (
        select(NodeRow.session_id)
        .where(NodeRow.run_id == run_id, NodeRow.step > node.step, NodeRow.session_id != node.session_id)
        .distinct()
        .limit(limit)
    )
    return session.scalar(select(func.count()).select_from(later.subquery())) or 0


def repairs(session: Session, artifacts: Artifacts, run_id: str, evaluation: Evaluation, known: int, limit: int) -> list[Repair]:
    """See `RunStore.repairs`."""
    signature = error_signature(evaluation)
    if not signature:
        return []
    found: list[Repair] = []
    created = session.scalar(select(RunRow.created).where(RunRow.run_id == run_id)) or 0.0
    broken = (
        select(NodeRow.run_id, NodeRow.node_id)
        .join(RunRow, RunRow.run_id == NodeRow.run_id)
        .where(NodeRow.error_signature == signature)
        .where((RunRow.created < created) | ((NodeRow.run_id == run_id) & (NodeRow.step < known)))
        .order_by(RunRow.created.desc(), NodeRow.step.desc())
        .limit(20)
    )
    for owner, node_id in session.execute(broken).tuples().all():
        fixed = (
            select(NodeRow)
            .join(EdgeRow, (EdgeRow.run_id == NodeRow.run_id) & (EdgeRow.child_id == NodeRow.node_id))
            .where(EdgeRow.run_id == owner, EdgeRow.parent_id == node_id, NodeRow.fitness > 0)
            .order_by(NodeRow.step)
            .limit(1)
        )
        row = session.scalars(fixed).first()
        if row is not None and (owner != run_id or row.step < known):
            before = session.get_one(NodeRow, (owner, node_id))
            found.append(Repair(owner, node_record(before, artifacts), node_record(row, artifacts)))
        if len(found) == limit:
            break
    return found


def find_node(session: Session, artifacts: Artifacts, prefix: str) -> tuple[str, NodeRecord]:
    """See `RunStore.find_node`."""
    rows = list(session.scalars(select(NodeRow).where(NodeRow.node_id.startswith(prefix, autoescape=True)).limit(2)))
    if len(rows) != 1:
        raise UnknownNameError(
            f"{'several nodes begin' if rows else 'no run or node begins'} with {prefix!r}; `kevolve runs` lists the runs"
        )
    return rows[0].run_id, node_record(rows[0], artifacts)


def graph_as_of(session: Session, run_id: str, step: int) -> MemoryGraph:
    """See `RunStore.graph_as_of`."""
    graph = MemoryGraph()
    fixed = (
        PlaceRow.place_id,
        PlaceRow.parents,
        PlaceRow.fitness,
        PlaceRow.position,
        PlaceRow.cell,
        PlaceRow.island,
        PlaceRow.generation,
    )
    made = select(*fixed).where(PlaceRow.run_id == run_id, PlaceRow.kind == "node", PlaceRow.position <= step)
    for row in session.execute(made.order_by(PlaceRow.position)):
        graph.put([Place(row[0], "node", tuple(row[1]), *row[2:])])
    rows = session.scalars(select(ChangeRow).where(ChangeRow.run_id == run_id, ChangeRow.step <= step).order_by(ChangeRow.change_id))
    graph.apply(Change(row.step, row.place_id, row.field, row.value) for row in rows)
    return graph


def counted(session: Session, run_id: str) -> Spent:
    """See `RunStore.counted`."""
    mine = EvaluationRow.run_id == run_id
    counts = dict(session.execute(select(EvaluationRow.purpose, func.count()).where(mine).group_by(EvaluationRow.purpose)).tuples().all())
    device = session.scalar(select(func.sum(EvaluationRow.seconds)).where(mine))
    summed = select(LedgerRow.kind, func.sum(LedgerRow.amount)).where(LedgerRow.run_id == run_id).group_by(LedgerRow.kind)
    ledger = dict(session.execute(summed).tuples().all())
    return Spent(
        evaluations=sum(counts.values()),
        remeasurements=counts.get("final", 0),
        seconds=run_row(session, run_id).seconds,
        device_seconds=float(device or 0.0),
        tokens=int(ledger.get("tokens", 0)),
        dollars=float(ledger.get("dollars", 0.0)),
    )
