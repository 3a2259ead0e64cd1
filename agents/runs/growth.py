"""How a round changes the stored graph: its sessions, nodes and edges are inserted once, the statistics follow, and every change of them is logged.

The hottest part of the run store: plain statements that are built once, as few of them a node as there are tables.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import BindParameter, Connection, bindparam, insert, select, update

from agents.runs.questions import num_nodes
from agents.runs.records import NodeRecord, Outcome, SessionRecord
from agents.runs.rows import node_columns, session_columns, session_record
from agents.runs.stored_graph import columns_of, load_path, load_place
from agents.runs.tables import CHANGES, EDGES, NODES, PLACES, SESSIONS
from agents.strategies.base import Needs
from agents.strategies.places import CLOSED_AT, MUTABLE, Place, Settled, Settling, cell_of, parents_key

_EXHAUSTION = {Outcome.EXHAUSTED: 2, Outcome.REPEATED: 1}
"""How much a fruitless session counts towards `Place.exhaustion`."""
_CHANGED = (*MUTABLE, "is_open")
_CHANGE_PLACE = (
    update(PLACES)
    .where(PLACES.c.run_id == bindparam("of_run"), PLACES.c.place_id == bindparam("changed_id"))
    .values({name: bindparam(f"new_{name}") for name in _CHANGED})
)
_IDS: BindParameter[Any] = bindparam("ids", expanding=True)  # Any: of whatever column it is compared with
_KNOWN_NODES = select(NODES.c.node_id).where(NODES.c.run_id == bindparam("run_id"), NODES.c.node_id.in_(_IDS))
_KNOWN_SESSIONS = select(SESSIONS.c.session_id).where(SESSIONS.c.run_id == bindparam("run_id"), SESSIONS.c.session_id.in_(_IDS))
_ADD_NODE, _ADD_SESSION, _ADD_PLACE, _ADD_EDGE, _LOG = map(insert, (NODES, SESSIONS, PLACES, EDGES, CHANGES))


def record_round(connection: Connection, run_id: str, sessions: Sequence[SessionRecord], nodes: Sequence[NodeRecord], needs: Needs) -> int:
    """See `RunStore.record_round`."""
    step, added = num_nodes(connection, run_id), 0
    edges: list[dict[str, str]] = []
    final: dict[str, tuple[NodeRecord, int]] = {}
    # The lease keeps other writers out, so that what is missing now may be inserted plainly; conflict clauses are compiled anew at every call.
    known = set(connection.execute(_KNOWN_NODES, {"run_id": run_id, "ids": [node.node_id for node in nodes]}).scalars())
    for node in nodes:
        if node.node_id not in known:
            known.add(node.node_id)
            connection.execute(_ADD_NODE, node_columns(run_id, node, step + added))
            edges += [{"run_id": run_id, "child_id": node.node_id, "parent_id": parent} for parent in dict.fromkeys(node.parents)]
            final[node.session_id] = (node, step + added)
            added += 1
    if edges:
        connection.execute(_ADD_EDGE, edges)
    settling = Settling(lambda place_id: load_place(connection, run_id, place_id))
    known = set(connection.execute(_KNOWN_SESSIONS, {"run_id": run_id, "ids": [item.session_id for item in sessions]}).scalars())
    for item in sessions:
        if item.session_id not in known:
            known.add(item.session_id)
            connection.execute(_ADD_SESSION, session_columns(run_id, item))
            last = final.get(item.session_id)
            place = _place(item, last[0].node_id, last[0].fitness, last[0].features, last[1]) if last else None
            if needs.visits and item.parents and item.parents[0] not in settling.places:
                settling.know(load_path(connection, run_id, item.parents[0]))
            settling.settle(_settled(item, place, step + added - 1, needs))
    write_places(connection, run_id, settling)
    return added


def close_place(connection: Connection, run_id: str, parents: Sequence[str]) -> None:
    """See `RunStore.close_place`."""
    settling = Settling(lambda place_id: load_place(connection, run_id, place_id))
    missing = CLOSED_AT - settling.get(parents_key(parents)).exhaustion
    if missing > 0:
        settling.settle(Settled(tuple(parents), num_nodes(connection, run_id) - 1, exhaustion=missing))
        write_places(connection, run_id, settling)


def settle_all(connection: Connection, run_id: str, needs: Needs) -> Settling:
    """Work the statistics of a run out from its sessions and nodes alone."""
    columns = (NODES.c.session_id, NODES.c.node_id, NODES.c.fitness, NODES.c.features, NODES.c.step)
    final = {row.session_id: row for row in connection.execute(select(*columns).where(NODES.c.run_id == run_id).order_by(NODES.c.step))}
    settling = Settling(lambda _: None)
    latest = -1
    for item in sessions(connection, run_id):
        row = final.get(item.session_id)
        latest = row.step if row else latest
        place = _place(item, row.node_id, row.fitness, row.features, row.step) if row else None
        settling.settle(_settled(item, place, latest, needs))
    return settling


def sessions(connection: Connection, run_id: str) -> list[SessionRecord]:
    """See `RunStore.sessions`."""
    rows = connection.execute(select(SESSIONS).where(SESSIONS.c.run_id == run_id).order_by(SESSIONS.c.round, SESSIONS.c.sibling))
    return [session_record(row) for row in rows]


def rebuild_places(connection: Connection, run_id: str, needs: Needs) -> None:
    """See `RunStore.rebuild_places`."""
    if connection.execute(select(PLACES.c.place_id).where(PLACES.c.run_id == run_id).limit(1)).first() is None:
        write_places(connection, run_id, settle_all(connection, run_id, needs))


def write_places(connection: Connection, run_id: str, settling: Settling) -> None:
    """Store places that are new, those that changed, and the log of the changes."""
    made = set(settling.made)
    changed = {change.place_id for change in settling.changes} - made
    if made:
        connection.execute(_ADD_PLACE, [{"run_id": run_id, **columns_of(settling.places[place_id])} for place_id in settling.made])
    if changed:
        get: Callable[[str], Place] = settling.places.__getitem__
        connection.execute(
            _CHANGE_PLACE,
            [
                {"of_run": run_id, "changed_id": place_id, **{f"new_{name}": getattr(get(place_id), name) for name in _CHANGED}}
                for place_id in sorted(changed)
            ],
        )
    if settling.changes:
        connection.execute(
            _LOG,
            [
                {"run_id": run_id, "step": change.step, "place_id": change.place_id, "field": change.field, "value": change.value}
                for change in settling.changes
            ],
        )


def _place(item: SessionRecord, node_id: str, fitness: float, features: Mapping[str, str], step: int) -> Place:
    return Place(
        place_id=node_id,
        parents=item.parents,
        fitness=fitness,
        position=step,
        cell=cell_of(features),
        island=int(item.algorithm.get("island", 0)),
        generation=int(item.algorithm.get("generation", 0)),
    )


def _settled(item: SessionRecord, place: Place | None, step: int, needs: Needs) -> Settled:
    """Return what a session means for the statistics; `place` is its last new node, `step` the latest node's."""
    return Settled(
        parents=item.parents,
        step=place.position if place else step,
        place=place,
        exhaustion=_EXHAUSTION.get(item.outcome, 0),
        ucb=item.algorithm.get("ucb"),
        has_island=needs.islands,
        is_backed_up=needs.visits,
    )
