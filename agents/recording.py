"""Turn the finished sessions of a round into nodes, in an order that does not depend on which session ended first."""

from __future__ import annotations

from collections.abc import Sequence

from agents.context import RunContext
from agents.diagnosis import features
from agents.runs.records import NodeRecord, Outcome, SessionRecord
from agents.session import node_id_of
from agents.state import SessionState
from agents.strategies.base import GraphView, NodeView
from agents.types import Memory

_EXHAUSTION = {Outcome.EXHAUSTED: 2, Outcome.REPEATED: 1}
"""How much a fruitless session counts towards `GraphView.is_exhausted`, which begins at 2."""


def record_round(context: RunContext, pending: Sequence[SessionState]) -> int:
    """Record the sessions of a round and their nodes in one transaction; return how many nodes are new.

    A candidate that an earlier node already holds gets no second node; what was built on it hangs on the earlier one.
    """
    history = context.history()
    by_hash = {node.source_hash: node.node_id for node in history}
    sessions: list[SessionRecord] = []
    nodes: list[NodeRecord] = []
    for state in pending:
        session_id = state["session_id"]
        parents = tuple(state["parents"])
        has_passed = has_written = False
        attempts = context.store.attempts(context.run_id, session_id)
        for item in attempts:
            if item.candidate is None or item.evaluation is None or item.duplicate_of:
                continue
            node_id = node_id_of(context.run_id, session_id, item.attempt)
            known = by_hash.setdefault(item.source_hash, node_id)
            if known == node_id:
                has_written = True
                has_passed = has_passed or item.has_passed
                nodes.append(
                    NodeRecord(
                        node_id=node_id,
                        step=0,
                        round=state["round"],
                        session_id=session_id,
                        attempt=item.attempt,
                        parents=parents,
                        candidate=item.candidate,
                        source_hash=item.source_hash,
                        artifact=item.artifact,
                        evaluation=item.evaluation,
                        notes=item.notes,
                        chunk_ids=item.chunk_ids,
                        diagnosis=item.diagnosis,
                        algorithm=state["algorithm"],
                        features=features(item.evaluation),
                    )
                )
            parents = (known,)
        if has_written:
            outcome = Outcome.PASSED if has_passed else Outcome.FAILED
        else:
            has_repeated = any(item.duplicate_of for item in attempts)
            is_stopped = any(item.candidate is not None and item.evaluation is None and not item.duplicate_of for item in attempts)
            outcome = Outcome.STOPPED if is_stopped or not attempts else Outcome.REPEATED if has_repeated else Outcome.EXHAUSTED
        sessions.append(
            SessionRecord(
                session_id=session_id,
                round=state["round"],
                sibling=state["sibling"],
                parents=tuple(state["parents"]),
                memory=Memory(state["memory"]),
                algorithm=state["algorithm"],
                outcome=outcome,
            )
        )
    return context.store.record_round(context.run_id, sessions, nodes)


def view_of(context: RunContext) -> GraphView:
    """Return the recorded graph as strategies see it: one node a session, its last."""
    last = {summary.session_id: summary for summary in context.store.node_summaries(context.run_id)}
    final_of = {summary.node_id: last[summary.session_id].node_id for summary in context.store.node_summaries(context.run_id)}
    nodes: list[NodeView] = []
    exhausted: dict[tuple[str, ...], int] = {}
    for session in context.store.sessions(context.run_id):
        weight = _EXHAUSTION.get(session.outcome, 0)
        exhausted[session.parents] = exhausted.get(session.parents, 0) + weight
        summary = last.get(session.session_id)
        if summary is not None:
            nodes.append(
                NodeView(
                    node_id=summary.node_id,
                    parents=tuple(dict.fromkeys(final_of[parent] for parent in session.parents)),
                    fitness=summary.fitness,
                    round=session.round,
                    algorithm=session.algorithm,
                    features=dict(summary.features),
                )
            )
    return GraphView(nodes=tuple(nodes), exhausted=exhausted)
