"""Turn the finished sessions of a round into nodes, in an order that does not depend on which session ended first."""

from __future__ import annotations

from collections.abc import Sequence

from agents.context import RunContext
from agents.diagnosis import features
from agents.runs.records import NodeRecord, Outcome, SessionRecord
from agents.session import node_id_of
from agents.state import SessionState
from agents.types import Memory


def record_round(context: RunContext, pending: Sequence[SessionState]) -> int:
    """Record the sessions of a round and their nodes in one transaction; return how many nodes are new.

    A candidate that an earlier node already holds gets no second node; what was built on it hangs on the earlier one.
    """
    by_hash: dict[str, str] = {}
    sessions: list[SessionRecord] = []
    nodes: list[NodeRecord] = []
    for state in pending:
        session_id = state["session_id"]
        parents = tuple(state["parents"])
        has_passed = has_written = False
        attempts = context.attempts(session_id)
        for item in attempts:
            if item.candidate is None or item.evaluation is None or item.duplicate_of:
                continue
            node_id = node_id_of(context.run_id, session_id, item.attempt)
            if item.source_hash not in by_hash:
                by_hash[item.source_hash] = context.store.node_with_source(context.run_id, item.source_hash) or node_id
            known = by_hash[item.source_hash]
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
    return context.store.record_round(context.run_id, sessions, nodes, context.strategy.needs)
