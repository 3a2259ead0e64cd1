"""What sessions write while they go on: attempts with the messages behind them, evaluations, what was spent, events. Functions over an open connection.

Statements are built once: these are the writes that every node costs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, insert, select, update

from agents.errors import UnknownNameError
from agents.runs.artifacts import Artifacts
from agents.runs.records import AttemptRecord, Event, Message
from agents.runs.rows import attempt_record, candidate_to_json
from agents.runs.tables import ATTEMPTS, EVALUATIONS, EVENTS, LEDGER, PROMPTS, RUNS
from tools.types import Evaluation, Status

_IN_RUN, _OF_SESSION = ATTEMPTS.c.run_id == bindparam("run_id"), ATTEMPTS.c.session_id == bindparam("session_id")
_THIS = (_IN_RUN, _OF_SESSION, ATTEMPTS.c.attempt == bindparam("attempt"))
_ATTEMPTS = select(ATTEMPTS).where(_IN_RUN, _OF_SESSION).order_by(ATTEMPTS.c.attempt)
_ATTEMPT = select(ATTEMPTS.c.attempt, ATTEMPTS.c.evaluation).where(*_THIS)
_FILL_IN = (
    update(ATTEMPTS)
    .where(
        ATTEMPTS.c.run_id == bindparam("of_run"),
        ATTEMPTS.c.session_id == bindparam("of_session"),
        ATTEMPTS.c.attempt == bindparam("number"),
    )
    .values(evaluation=bindparam("evaluation"))
)
_EVALUATION = select(EVALUATIONS.c.evaluation).where(
    EVALUATIONS.c.run_id == bindparam("run_id"),
    EVALUATIONS.c.source_hash == bindparam("source_hash"),
    EVALUATIONS.c.purpose == bindparam("purpose"),
)
_HANG = (
    select(EVALUATIONS.c.run_id)
    .where(
        EVALUATIONS.c.target == bindparam("target"),
        EVALUATIONS.c.status == Status.TIMEOUT.value,
        EVALUATIONS.c.source_hash == bindparam("source_hash"),
    )
    .limit(1)
)
_ENTRY = select(LEDGER.c.key).where(LEDGER.c.run_id == bindparam("run_id"), LEDGER.c.key == bindparam("key"))
_SUMS = ("evaluations", "remeasurements", "device_seconds", "tokens", "dollars")
_ADD_UP = (
    update(RUNS).where(RUNS.c.run_id == bindparam("of_run")).values({name: RUNS.c[name] + bindparam(f"more_{name}") for name in _SUMS})
)
_ADD_ATTEMPT, _ADD_PROMPT, _ADD_EVALUATION, _ADD_ENTRY, _ADD_EVENT = map(insert, (ATTEMPTS, PROMPTS, EVALUATIONS, LEDGER, EVENTS))


def attempts(connection: Connection, artifacts: Artifacts, run_id: str, session_id: str) -> list[AttemptRecord]:
    """See `RunStore.attempts`."""
    return [attempt_record(row, artifacts) for row in connection.execute(_ATTEMPTS, {"run_id": run_id, "session_id": session_id})]


def add_attempt(
    connection: Connection,
    run_id: str,
    session_id: str,
    record: AttemptRecord,
    artifact: str | None,
    messages: Sequence[tuple[Message, str]],
) -> bool:
    """Store a draft and its messages, each with the artifact that holds its text; return False where the draft is there already."""
    key = {"run_id": run_id, "session_id": session_id, "attempt": record.attempt}
    if connection.execute(_ATTEMPT, key).first() is not None:
        return False
    columns = {
        "artifact": artifact,
        "source_hash": record.source_hash or None,
        "candidate": candidate_to_json(record.candidate) if record.candidate else {},
        "draft": {"notes": record.notes, "chunk_ids": list(record.chunk_ids)},
        "diagnosis": dict(record.diagnosis),
        "evaluation": None,
        "duplicate_of": record.duplicate_of or None,
    }
    connection.execute(_ADD_ATTEMPT, {**key, **columns})
    if messages:
        said = [{"position": position, "role": message.role, "artifact": text} for position, (message, text) in enumerate(messages)]
        connection.execute(_ADD_PROMPT, [{**key, **item} for item in said])
    return True


def messages_of(connection: Connection, run_id: str, session_id: str, attempt: int) -> list[tuple[str, str]]:
    """Return role and artifact of each message of an attempt, in order."""
    key = (PROMPTS.c.run_id == run_id, PROMPTS.c.session_id == session_id, PROMPTS.c.attempt == attempt)
    query = select(PROMPTS.c.role, PROMPTS.c.artifact).where(*key).order_by(PROMPTS.c.position)
    return [(role, artifact) for role, artifact in connection.execute(query)]


def fill_in(connection: Connection, run_id: str, session_id: str, attempt: int, evaluation: Evaluation) -> None:
    """See `RunStore.set_attempt_evaluation`."""
    row = connection.execute(_ATTEMPT, {"run_id": run_id, "session_id": session_id, "attempt": attempt}).first()
    if row is None:
        raise UnknownNameError(f"run {run_id} has no attempt {attempt} in session {session_id!r}")
    if row.evaluation is None:
        named = {"of_run": run_id, "of_session": session_id, "number": attempt}
        connection.execute(_FILL_IN, {**named, "evaluation": evaluation.to_json()})


def evaluation(connection: Connection, run_id: str, source_hash: str, purpose: str) -> Evaluation | None:
    """See `RunStore.evaluation`."""
    row = connection.execute(_EVALUATION, {"run_id": run_id, "source_hash": source_hash, "purpose": purpose}).first()
    return Evaluation.from_json(row[0]) if row else None


def add_evaluation(connection: Connection, run_id: str, source_hash: str, purpose: str, made: Evaluation) -> None:
    """See `RunStore.add_evaluation`."""
    key = {"run_id": run_id, "source_hash": source_hash, "purpose": purpose}
    if connection.execute(_EVALUATION, key).first() is not None:
        return
    columns = {
        "candidate_id": made.candidate_id,
        "target": made.target,
        "status": made.status.value,
        "seconds": made.seconds,
        "evaluation": made.to_json(),
    }
    connection.execute(_ADD_EVALUATION, {**key, **columns})
    _add_up(connection, run_id, evaluations=1, remeasurements=int(purpose == "final"), device_seconds=made.seconds)


def hangs(connection: Connection, target: str, source_hash: str) -> bool:
    """See `RunStore.hangs`."""
    return connection.execute(_HANG, {"target": target, "source_hash": source_hash}).first() is not None


def spend(connection: Connection, run_id: str, key: str, amounts: Mapping[str, float]) -> None:
    """Count amounts of `tokens` and `dollars` under a key, each once."""
    new = {
        kind: amount
        for kind, amount in amounts.items()
        if amount and connection.execute(_ENTRY, {"run_id": run_id, "key": f"{kind}:{key}"}).first() is None
    }
    if new:
        entries = [{"run_id": run_id, "key": f"{kind}:{key}", "kind": kind, "amount": float(amount)} for kind, amount in new.items()]
        connection.execute(_ADD_ENTRY, entries)
        _add_up(connection, run_id, **new)


def tell(connection: Connection, run_id: str, time: float, items: Sequence[Event]) -> None:
    """Append events."""
    if items:
        connection.execute(_ADD_EVENT, [{"run_id": run_id, "time": time, "kind": item.kind, "data": dict(item.data)} for item in items])


def events(connection: Connection, run_id: str, kind: str | None, after: int) -> list[Event]:
    """See `RunStore.events`."""
    query = select(EVENTS).where(EVENTS.c.run_id == run_id, EVENTS.c.event_id > after).order_by(EVENTS.c.event_id)
    rows = connection.execute(query if kind is None else query.where(EVENTS.c.kind == kind))
    return [Event(kind=row.kind, data=row.data, number=row.event_id, time=row.time) for row in rows]


def _add_up(connection: Connection, run_id: str, **more: Any) -> None:  # Any: whole numbers and fractions
    """Add to the running totals of a run."""
    connection.execute(_ADD_UP, {"of_run": run_id, **{f"more_{name}": more.get(name, 0) for name in _SUMS}})
