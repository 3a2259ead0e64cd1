"""The run store: tasks, runs, sessions, attempts, nodes, statistics, evaluations, events and ledger in one SQL database, with a lease per run.

Everything that must not be lost is committed before the call returns. Inserts that may be repeated after a kill are keyed by content, so that
repeating them changes nothing. Only the holder of a run's lease may write to it.
"""

from __future__ import annotations

import dataclasses
import os
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any

from sqlalchemy import insert, select, update
from sqlalchemy.orm import Session

from agents.errors import RunStateError, RunStoreError, UnknownNameError
from agents.runs import growth, questions
from agents.runs.artifacts import open_artifacts
from agents.runs.database import Database, database_url
from agents.runs.growth import insert_once
from agents.runs.hashing import derived_id
from agents.runs.lease import Holder
from agents.runs.leases import Clock, Leases
from agents.runs.models import (
    AttemptRow,
    ChangeRow,
    EvaluationRow,
    EventRow,
    LedgerRow,
    NodeRow,
    PromptRow,
    RequestRow,
    RunRow,
    SessionRow,
    TaskRow,
)
from agents.runs.questions import run_row
from agents.runs.records import (
    AttemptRecord,
    Event,
    Message,
    NodeRecord,
    NodeSummary,
    Repair,
    Request,
    RunRecord,
    RunStatus,
    SessionRecord,
    Spent,
)
from agents.runs.rows import attempt_record, candidate_to_json, new_attempt, node_record, run_record, session_record
from agents.runs.schema import refuse_newer_file
from agents.runs.stored_graph import StoredGraph
from agents.strategies.base import Needs
from agents.strategies.memory_graph import MemoryGraph
from agents.strategies.places import Change, Place
from tools.types import Evaluation, Problem, Status

METRIC = "speedup"
"""What fitness means: speedup over the stronger of eager and compiled."""
__all__ = ["METRIC", "RunStore", "database_url", "new_attempt", "replayed"]


class RunStore:
    """Runs under one home directory, or in a database and at an artifact address of their own.

    Args:
        home: State directory; `runs.sqlite` and `artifacts/` live in it unless other places are given.
        url: Address of another database, for example `postgresql://user@host/name`; None: `KEVOLVE_STORE`, else SQLite in `home`.
        artifacts: Directory or fsspec URL for sources and prompts; None: `KEVOLVE_ARTIFACTS`, else a directory in `home`.
        clock: Seconds since the epoch.

    Raises:
        RunStoreError: The database is of a newer schema (it is left untouched), is no run store, or cannot be reached or written.
    """

    def __init__(self, home: Path, url: str | None = None, clock: Clock = time.time, artifacts: str | None = None) -> None:
        self.home = home
        self.artifacts = open_artifacts(artifacts or os.environ.get("KEVOLVE_ARTIFACTS") or home / "artifacts")
        self._clock = clock
        path = home / "runs.sqlite"
        self.url = database_url(url or os.environ.get("KEVOLVE_STORE") or f"sqlite:///{path}")
        """Address of the database, for SQLAlchemy."""
        if self.url == f"sqlite:///{path}":
            refuse_newer_file(path)
        try:
            home.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunStoreError(f"cannot create {home}: {error.strerror}; choose another --home") from error
        self._database = Database(self.url)
        self.is_sqlite = self._database.is_sqlite
        self._read = self._database.reading
        self._leases = Leases(self._database, clock)

    def close(self) -> None:
        """Release what this process holds and close the connections."""
        for run_id in self._leases.held:
            self.release(run_id)
        self._database.close()

    def __enter__(self) -> RunStore:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    # --- runs and leases ---------------------------------------------------------------------------------------------

    def create_run(
        self,
        problem: Problem,
        *,
        target: str,
        strategy: str,
        coder: str,
        seed: int,
        config: Mapping[str, Any],  # Any: JSON
        versions: Mapping[str, str],
    ) -> str:
        """Insert an open run, hold its lease, and return its id."""
        run_id = time.strftime("%y%m%d-", time.gmtime(self._clock())) + uuid.uuid4().hex[:6]
        holder = Holder.current()
        task_id = derived_id(problem.source_hash, target, METRIC)
        with self._database.writing() as session:
            if session.get(TaskRow, task_id) is None:
                session.execute(
                    insert_once(session, TaskRow).values(
                        task_id=task_id,
                        problem_id=problem.problem_id,
                        problem_hash=problem.source_hash,
                        target=target,
                        metric=METRIC,
                        signature="",
                    )
                )
            session.add(
                RunRow(
                    run_id=run_id,
                    task_id=task_id,
                    created=self._clock(),
                    status=RunStatus.OPEN.value,
                    target=target,
                    strategy=strategy,
                    coder=coder,
                    seed=seed,
                    problem=dataclasses.asdict(problem),
                    problem_hash=problem.source_hash,
                    config=dict(config),
                    versions=dict(versions),
                    result=None,
                    seconds=0.0,
                    **self._leases.columns(holder),
                )
            )
        self._leases.keep(run_id, holder)
        return run_id

    def acquire(self, run_id: str) -> None:
        """Take the lease of an open run; one whose holder died is taken over.

        Raises:
            UnknownNameError: There is no such run.
            RunStateError: The run is finished, or a living process drives it.
        """
        self._leases.acquire(run_id)

    def release(self, run_id: str) -> None:
        """Give the lease back, if this process still has it."""
        self._leases.release(run_id)

    def beat(self, run_id: str, seconds: float) -> None:
        """Give a sign of life and add `seconds` of wall time to the run.

        Raises:
            RunStateError: Another process has taken the run over.
        """
        with self._write_run(run_id, is_precious=False) as session:
            values = {"lease_beat": self._clock(), "seconds": RunRow.seconds + seconds}
            session.execute(update(RunRow).where(RunRow.run_id == run_id).values(**values))

    def finish(self, run_id: str, result: Mapping[str, Any]) -> None:  # Any: JSON
        """Publish the result and close the run."""
        with self._write_run(run_id) as session:
            values = {"result": dict(result), "status": RunStatus.FINISHED.value}
            session.execute(update(RunRow).where(RunRow.run_id == run_id).values(**values))

    def run(self, run_id: str) -> RunRecord:
        """Return a run by its id or an unambiguous beginning of it.

        Raises:
            UnknownNameError: There is no such run, or several; the message lists the latest or the fitting ones.
        """
        with self._read() as session:
            row = run_row(session, run_id)
            return run_record(row, self._leases.is_driven(row))

    def runs(self, limit: int | None = None) -> list[RunRecord]:
        """Return runs, latest first."""
        with self._read() as session:
            rows = session.scalars(select(RunRow).order_by(RunRow.created.desc()).limit(limit))
            return [run_record(row, self._leases.is_driven(row)) for row in rows]

    # --- sessions and attempts ---------------------------------------------------------------------------------------

    def attempts(self, run_id: str, session_id: str) -> list[AttemptRecord]:
        """Return the drafts of a session in order."""
        with self._read() as session:
            rows = session.scalars(
                select(AttemptRow).where(AttemptRow.run_id == run_id, AttemptRow.session_id == session_id).order_by(AttemptRow.attempt)
            )
            return [attempt_record(row, self.artifacts) for row in rows]

    def add_attempt(
        self,
        run_id: str,
        session_id: str,
        record: AttemptRecord,
        *,
        tokens: int = 0,
        dollars: float = 0.0,
        messages: Sequence[Message] = (),
    ) -> None:
        """Store a draft, with the messages that led to it, before it is evaluated; a draft that is there already stays as it is."""
        artifact = self.artifacts.write(record.candidate.source) if record.candidate else None
        texts = [self.artifacts.write(message.text) for message in messages]
        with self._write_run(run_id) as session:
            if session.get(AttemptRow, (run_id, session_id, record.attempt)) is not None:
                return
            session.add(
                AttemptRow(
                    run_id=run_id,
                    session_id=session_id,
                    attempt=record.attempt,
                    artifact=artifact,
                    source_hash=record.source_hash or None,
                    candidate=candidate_to_json(record.candidate) if record.candidate else {},
                    draft={"notes": record.notes, "chunk_ids": list(record.chunk_ids)},
                    diagnosis=dict(record.diagnosis),
                    evaluation=None,
                    duplicate_of=record.duplicate_of or None,
                )
            )
            for kind, amount in (("tokens", float(tokens)), ("dollars", dollars)):
                if amount:
                    session.add(LedgerRow(run_id=run_id, key=f"{kind}:{session_id}:{record.attempt}", kind=kind, amount=amount))
            if tokens or dollars:
                values = {"tokens": RunRow.tokens + tokens, "dollars": RunRow.dollars + dollars}
                session.execute(update(RunRow).where(RunRow.run_id == run_id).values(**values))
            for position, (message, text) in enumerate(zip(messages, texts, strict=True)):
                session.add(
                    PromptRow(
                        run_id=run_id,
                        session_id=session_id,
                        attempt=record.attempt,
                        position=position,
                        role=message.role,
                        artifact=text,
                    )
                )

    def messages(self, run_id: str, session_id: str, attempt: int) -> list[Message]:
        """Return what was sent to and came from a model for one attempt, in order."""
        with self._read() as session:
            key = (PromptRow.run_id == run_id, PromptRow.session_id == session_id, PromptRow.attempt == attempt)
            rows = session.execute(select(PromptRow.role, PromptRow.artifact).where(*key).order_by(PromptRow.position)).tuples().all()
        return [Message(role, self.artifacts.read(artifact)) for role, artifact in rows]

    def spend(self, run_id: str, key: str, *, tokens: int = 0, dollars: float = 0.0) -> None:
        """Count what something cost, once for each key."""
        with self._write_run(run_id, is_precious=False) as session:
            for kind, amount in (("tokens", tokens), ("dollars", dollars)):
                if amount and session.get(LedgerRow, (run_id, f"{kind}:{key}")) is None:
                    session.add(LedgerRow(run_id=run_id, key=f"{kind}:{key}", kind=kind, amount=float(amount)))
                    column = getattr(RunRow, kind)
                    session.execute(update(RunRow).where(RunRow.run_id == run_id).values({column: column + amount}))

    def set_attempt_evaluation(self, run_id: str, session_id: str, attempt: int, evaluation: Evaluation) -> None:
        """Fill in what became of a draft; the first word stands."""
        key = (AttemptRow.run_id == run_id, AttemptRow.session_id == session_id, AttemptRow.attempt == attempt)
        # What was measured is durable in the evaluations already; a repeat after a power failure finds it there.
        with self._write_run(run_id, is_precious=evaluation.status is Status.LINT_ERROR) as session:
            if session.scalar(select(AttemptRow.attempt).where(*key)) is None:
                raise UnknownNameError(f"run {run_id} has no attempt {attempt} in session {session_id!r}")
            mine = session.scalar(select(AttemptRow.evaluation).where(*key))
            if mine is None:
                session.execute(update(AttemptRow).where(*key).values(evaluation=evaluation.to_json()))

    # --- evaluations ---------------------------------------------------------------------------------------------------

    def evaluation(self, run_id: str, source_hash: str, purpose: str) -> Evaluation | None:
        """Return the evaluation made for this purpose (`search` or `final`), or None."""
        with self._read() as session:
            row = session.get(EvaluationRow, (run_id, source_hash, purpose))
            return Evaluation.from_json(row.evaluation) if row else None

    def add_evaluation(self, run_id: str, source_hash: str, purpose: str, evaluation: Evaluation) -> None:
        """Store an evaluation durably and count it once."""
        with self._write_run(run_id) as session:
            made: Any = session.execute(  # Any: a cursor result, which knows how many rows it made
                insert_once(session, EvaluationRow).values(
                    run_id=run_id,
                    source_hash=source_hash,
                    purpose=purpose,
                    candidate_id=evaluation.candidate_id,
                    target=evaluation.target,
                    status=evaluation.status.value,
                    seconds=evaluation.seconds,
                    evaluation=evaluation.to_json(),
                )
            )
            if made.rowcount:
                values = {
                    "evaluations": RunRow.evaluations + 1,
                    "remeasurements": RunRow.remeasurements + int(purpose == "final"),
                    "device_seconds": RunRow.device_seconds + evaluation.seconds,
                }
                session.execute(update(RunRow).where(RunRow.run_id == run_id).values(**values))

    def hangs(self, target: str, source_hash: str) -> bool:
        """Return whether this source is known, from any run, to run into the time limit on the target."""
        with self._read() as session:
            return (
                session.scalars(
                    select(EvaluationRow.run_id)
                    .where(
                        EvaluationRow.target == target,
                        EvaluationRow.status == Status.TIMEOUT.value,
                        EvaluationRow.source_hash == source_hash,
                    )
                    .limit(1)
                ).first()
                is not None
            )

    def spent(self, run_id: str) -> Spent:
        """Return what the run has used up."""
        totals = (RunRow.evaluations, RunRow.remeasurements, RunRow.seconds, RunRow.device_seconds, RunRow.tokens, RunRow.dollars)
        with self._read() as session:
            row = session.execute(select(*totals).where(RunRow.run_id == run_id)).first()
            return Spent(*row) if row is not None else Spent(*(getattr(run_row(session, run_id), column.key) for column in totals))

    # --- nodes and events ----------------------------------------------------------------------------------------------

    def record_round(self, run_id: str, sessions: Sequence[SessionRecord], nodes: Sequence[NodeRecord], needs: Needs | None = None) -> int:
        """Insert the sessions and nodes of one round in one transaction; what is there already stays. Returns how many nodes were new.

        The nodes' `step` is ignored: they get the next logical steps in the given order. The statistics of the places change with them, and
        every change is logged.

        Args:
            needs: Statistics that the run's strategy wants kept.
        """
        with self._write_run(run_id) as session:
            return growth.record_round(session, run_id, sessions, nodes, needs or Needs())

    def close_place(self, run_id: str, parents: Sequence[str]) -> None:
        """Take these parents (none: drafts) out of the frontier for good; closing them again changes nothing."""
        with self._write_run(run_id) as session:
            growth.close_place(session, run_id, parents)

    def rebuild_places(self, run_id: str, needs: Needs) -> None:
        """Work the statistics out anew from the sessions and nodes, if there are sessions but no statistics (a run begun by an older version)."""
        with self._write_run(run_id) as session:
            growth.rebuild_places(session, run_id, needs)

    def counted(self, run_id: str) -> Spent:
        """Return what the run has used up, added up from the single entries; `spent` reads running totals and is as good."""
        with self._read() as session:
            return questions.counted(session, run_id)

    def graph(self, run_id: str) -> StoredGraph:
        """Return the run's graph as strategies see it."""
        return StoredGraph(self._read, run_id)

    def graph_as_of(self, run_id: str, step: int) -> MemoryGraph:
        """Rebuild the state of the search as it was when logical step `step` had been recorded, from the nodes and the change log."""
        with self._read() as session:
            return questions.graph_as_of(session, run_id, step)

    def changes(self, run_id: str, place_id: str | None = None) -> list[Change]:
        """Return the change log of a run, or of one of its places, in order."""
        query = select(ChangeRow).where(ChangeRow.run_id == run_id).order_by(ChangeRow.change_id)
        if place_id is not None:
            query = query.where(ChangeRow.place_id == place_id)
        with self._read() as session:
            return [Change(row.step, row.place_id, row.field, row.value) for row in session.scalars(query)]

    def num_nodes(self, run_id: str) -> int:
        """Return how many nodes are recorded; the next one gets this logical step."""
        with self._read() as session:
            return questions.num_nodes(session.connection(), run_id)

    def nodes(self, run_id: str, since: int = 0, until: int | None = None) -> list[NodeRecord]:
        """Return the nodes of a run from logical step `since` on, those before `until` if it is given, in logical order."""
        query = select(NodeRow).where(NodeRow.run_id == run_id, NodeRow.step >= since).order_by(NodeRow.step)
        if until is not None:
            query = query.where(NodeRow.step < until)
        with self._read() as session:
            return [node_record(row, self.artifacts) for row in session.scalars(query)]

    def nodes_by_id(self, run_id: str, node_ids: Sequence[str]) -> list[NodeRecord]:
        """Return these nodes in logical order; ids that are unknown are left out."""
        with self._read() as session:
            query = select(NodeRow).where(NodeRow.run_id == run_id, NodeRow.node_id.in_(node_ids)).order_by(NodeRow.step)
            return [node_record(row, self.artifacts) for row in session.scalars(query)]

    def node_with_source(self, run_id: str, source_hash: str, until: int | None = None) -> str | None:
        """Return the id of the earliest node with this normalised source, among those before logical step `until`; None if there is none."""
        query = select(NodeRow.node_id).where(NodeRow.run_id == run_id, NodeRow.source_hash == source_hash)
        if until is not None:
            query = query.where(NodeRow.step < until)
        with self._read() as session:
            return session.scalar(query.order_by(NodeRow.step).limit(1))

    def ancestors(self, run_id: str, node_ids: Sequence[str], limit: int | None = None) -> list[str]:
        """Return the ids of nodes with all that led to them, nearest first, at most `limit`; by a recursive query."""
        with self._read() as session:
            return questions.ancestors(session, run_id, node_ids, limit)

    def siblings(self, run_id: str, parents: Sequence[str], limit: int | None = None, until: int | None = None) -> list[str]:
        """Return the ids of the latest nodes of sessions that expanded exactly these parents (none: drafts), latest first."""
        with self._read() as session:
            return questions.siblings(session, run_id, parents, limit, until)

    def node_summaries(self, run_id: str, latest: int | None = None) -> list[NodeSummary]:
        """Return the nodes of a run in logical order, or the `latest` so many, without sources and samples."""
        with self._read() as session:
            return questions.node_summaries(session, run_id, latest)

    def sessions_since(self, run_id: str, node: NodeRecord, limit: int) -> int:
        """Return how many sessions brought nodes after this one, counted up to `limit`."""
        with self._read() as session:
            return questions.sessions_since(session, run_id, node, limit)

    def best_nodes(self, run_id: str, limit: int) -> list[NodeRecord]:
        """Return the fittest nodes that passed, best first, the earlier of equals first."""
        query = select(NodeRow).where(NodeRow.run_id == run_id, NodeRow.fitness > 0)
        with self._read() as session:
            return [
                node_record(row, self.artifacts)
                for row in session.scalars(query.order_by(NodeRow.fitness.desc(), NodeRow.step).limit(limit))
            ]

    def best_fitness(self, run_id: str) -> tuple[str, float] | None:
        """Return id and fitness of the fittest node that passed, the earliest of equals; None if none did."""
        query = select(NodeRow.node_id, NodeRow.fitness).where(NodeRow.run_id == run_id, NodeRow.fitness > 0)
        with self._read() as session:
            row = session.execute(query.order_by(NodeRow.fitness.desc(), NodeRow.step).limit(1)).first()
            return (row[0], row[1]) if row is not None else None

    def repairs(self, run_id: str, evaluation: Evaluation, *, known: int, limit: int = 3) -> list[Repair]:
        """Return how failures with the same error signature were mended: in this run before logical step `known`, or in earlier runs."""
        with self._read() as session:
            return questions.repairs(session, self.artifacts, run_id, evaluation, known, limit)

    def sessions(self, run_id: str) -> list[SessionRecord]:
        """Return the recorded sessions of a run in the order of their rounds."""
        with self._read() as session:
            rows = session.scalars(select(SessionRow).where(SessionRow.run_id == run_id).order_by(SessionRow.round, SessionRow.sibling))
            return [session_record(row) for row in rows]

    def find_node(self, prefix: str) -> tuple[str, NodeRecord]:
        """Return the run id and the node whose id begins with `prefix`.

        Raises:
            UnknownNameError: None or several do.
        """
        with self._read() as session:
            return questions.find_node(session, self.artifacts, prefix)

    def add_event(self, run_id: str, item: Event) -> None:
        """Append an event."""
        with self._write_run(run_id, is_precious=False) as session:
            session.execute(insert(EventRow).values(run_id=run_id, time=self._clock(), kind=item.kind, data=dict(item.data)))

    def events(self, run_id: str, kind: str | None = None, after: int = 0) -> list[Event]:
        """Return the events of a run in order, all or of one kind, those after number `after`."""
        with self._read() as session:
            query = select(EventRow).where(EventRow.run_id == run_id, EventRow.event_id > after).order_by(EventRow.event_id)
            if kind is not None:
                query = query.where(EventRow.kind == kind)
            return [Event(kind=row.kind, data=row.data, number=row.event_id, time=row.time) for row in session.scalars(query)]

    # --- people ------------------------------------------------------------------------------------------------------------

    def ask(self, run_id: str, kind: str, text: str = "") -> None:
        """Leave a request for whoever drives the run; needs no lease.

        Raises:
            UnknownNameError: There is no such run.
            RunStateError: The run is finished.
        """
        with self._database.writing() as session:
            row = run_row(session, run_id)
            if row.status != RunStatus.OPEN.value:
                raise RunStateError(f"run {row.run_id} is {row.status}; nothing can be asked of it any more")
            session.add(RequestRow(run_id=row.run_id, time=self._clock(), kind=kind, text=text))

    def requests(self, run_id: str, after: int = 0) -> list[Request]:
        """Return what was asked of a run, those after number `after`, in order."""
        with self._read() as session:
            query = select(RequestRow).where(RequestRow.run_id == run_id, RequestRow.request_id > after).order_by(RequestRow.request_id)
            return [Request(number=row.request_id, kind=row.kind, text=row.text) for row in session.scalars(query)]

    def describe_task(self, run_id: str, signature: str) -> None:
        """Keep what the run's task computes, as the coder describes it."""
        with self._write_run(run_id) as session:
            task_id = select(RunRow.task_id).where(RunRow.run_id == run_id).scalar_subquery()
            session.execute(update(TaskRow).where(TaskRow.task_id == task_id).values(signature=signature))

    def _write_run(self, run_id: str, is_precious: bool = True) -> AbstractContextManager[Session]:
        return self._leases.writing(run_id, is_precious)


def replayed(store: RunStore, run_id: str, needs: Needs) -> list[Place]:
    """Return the places of a run as they follow from its sessions and nodes alone, in logical order."""
    with store._read() as session:
        settling = growth.settle_all(session, run_id, needs)
    return sorted(settling.places.values(), key=lambda place: place.position)
