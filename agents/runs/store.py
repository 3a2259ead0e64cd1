"""The run store: tasks, runs, sessions, attempts, nodes, statistics, evaluations, events and ledger in one SQL database, with a lease per run.

Everything that must not be lost is committed before the call returns. Inserts that may be repeated after a kill are keyed by content, so that
repeating them changes nothing. Only the holder of a run's lease may write to it.
"""

from __future__ import annotations

import dataclasses
import os
import sqlite3
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from sqlalchemy import bindparam, create_engine, event, func, insert, select, update
from sqlalchemy.engine import Engine, make_url
from sqlalchemy.exc import ArgumentError, DatabaseError
from sqlalchemy.orm import Session

from agents.errors import RunStateError, RunStoreError, UnknownNameError
from agents.runs.artifacts import open_artifacts
from agents.runs.hashing import derived_id, error_signature, normalised_hash
from agents.runs.lease import Holder, is_alive
from agents.runs.models import (
    AttemptRow,
    ChangeRow,
    EdgeRow,
    EvaluationRow,
    EventRow,
    LedgerRow,
    NodeRow,
    PlaceRow,
    PromptRow,
    RequestRow,
    RunRow,
    SessionRow,
    TaskRow,
)
from agents.runs.records import (
    AttemptRecord,
    Event,
    Message,
    NodeRecord,
    NodeSummary,
    Outcome,
    Repair,
    Request,
    RunRecord,
    RunStatus,
    SessionRecord,
    Spent,
)
from agents.runs.schema import refuse_newer_file, upgrade
from agents.runs.stored_graph import StoredGraph, columns_of, load_path, load_place
from agents.strategies.base import Needs
from agents.strategies.memory_graph import MemoryGraph
from agents.strategies.places import CLOSED_AT, MUTABLE, Change, Place, Settled, Settling, cell_of, parents_key
from agents.types import Memory
from tools.types import Candidate, Evaluation, Problem, Status

Clock = Callable[[], float]
METRIC = "speedup"
"""What fitness means: speedup over the stronger of eager and compiled."""
_EXHAUSTION = {Outcome.EXHAUSTED: 2, Outcome.REPEATED: 1}
"""How much a fruitless session counts towards `Place.exhaustion`."""


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
        self._holders: dict[str, Holder] = {}
        path = home / "runs.sqlite"
        self.url = database_url(url or os.environ.get("KEVOLVE_STORE") or f"sqlite:///{path}")
        """Address of the database, for SQLAlchemy."""
        if self.url == f"sqlite:///{path}":
            refuse_newer_file(path)
        try:
            home.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunStoreError(f"cannot create {home}: {error.strerror}; choose another --home") from error
        self._engine = _engine(self.url)
        self.is_sqlite = self._engine.dialect.name == "sqlite"
        self._writer: Engine = self._engine.execution_options(immediate=True)
        try:
            upgrade(self._writer)
        except DatabaseError as error:
            raise RunStoreError(f"cannot open the run store {self._engine.url!r}: {error.orig}") from error

    def close(self) -> None:
        """Release what this process holds and close the connections."""
        for run_id in list(self._holders):
            self.release(run_id)
        self._engine.dispose()

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
        with self._write() as session:
            if session.get(TaskRow, task_id) is None:
                session.execute(
                    _insert_once(session, TaskRow).values(
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
                    **_lease_columns(holder, self._clock()),
                )
            )
        self._holders[run_id] = holder
        return run_id

    def acquire(self, run_id: str) -> None:
        """Take the lease of an open run; one whose holder died is taken over.

        Raises:
            UnknownNameError: There is no such run.
            RunStateError: The run is finished, or a living process drives it.
        """
        holder = Holder.current()
        with self._write() as session:
            row = session.get(RunRow, run_id, with_for_update=True) or _run_row(session, run_id)
            if row.status != RunStatus.OPEN.value:
                raise RunStateError(f"run {run_id} is {row.status}; there is nothing to resume. `kevolve show {run_id}` shows its result")
            if self._is_driven(row):
                raise RunStateError(
                    f"run {run_id} is driven by process {row.lease_pid} on {row.lease_host}; wait until it ends or stop it, then resume"
                )
            for name, value in _lease_columns(holder, self._clock()).items():
                setattr(row, name, value)
        self._holders[run_id] = holder

    def release(self, run_id: str) -> None:
        """Give the lease back, if this process still has it."""
        holder = self._holders.pop(run_id, None)
        if holder is None:
            return
        with self._write() as session:
            row = session.get(RunRow, run_id)
            if row is not None and row.lease_owner == holder.owner:
                for name in ("lease_owner", "lease_host", "lease_pid", "lease_started", "lease_beat"):
                    setattr(row, name, None)

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
            return self._record(_run_row(session, run_id))

    def runs(self, limit: int | None = None) -> list[RunRecord]:
        """Return runs, latest first."""
        with self._read() as session:
            rows = session.scalars(select(RunRow).order_by(RunRow.created.desc()).limit(limit))
            return [self._record(row) for row in rows]

    # --- sessions and attempts ---------------------------------------------------------------------------------------

    def attempts(self, run_id: str, session_id: str) -> list[AttemptRecord]:
        """Return the drafts of a session in order."""
        with self._read() as session:
            rows = session.scalars(
                select(AttemptRow).where(AttemptRow.run_id == run_id, AttemptRow.session_id == session_id).order_by(AttemptRow.attempt)
            )
            return [self._attempt(row) for row in rows]

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
                    candidate=_candidate_to_json(record.candidate) if record.candidate else {},
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
                _insert_once(session, EvaluationRow).values(
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
            return Spent(*row) if row is not None else Spent(*(getattr(_run_row(session, run_id), column.key) for column in totals))

    # --- nodes and events ----------------------------------------------------------------------------------------------

    def record_round(self, run_id: str, sessions: Sequence[SessionRecord], nodes: Sequence[NodeRecord], needs: Needs | None = None) -> int:
        """Insert the sessions and nodes of one round in one transaction; what is there already stays. Returns how many nodes were new.

        The nodes' `step` is ignored: they get the next logical steps in the given order. The statistics of the places change with them, and
        every change is logged.

        Args:
            needs: Statistics that the run's strategy wants kept.
        """
        added = 0
        with self._write_run(run_id) as session:
            step = _num_nodes(session, run_id)
            final: dict[str, tuple[NodeRecord, int]] = {}
            for node in nodes:
                if session.get(NodeRow, (run_id, node.node_id)) is None:
                    session.add(_node_row(run_id, node, step + added))
                    session.add_all(
                        EdgeRow(run_id=run_id, child_id=node.node_id, parent_id=parent) for parent in dict.fromkeys(node.parents)
                    )
                    final[node.session_id] = (node, step + added)
                    added += 1
            settling = Settling(lambda place_id: load_place(session, run_id, place_id))
            for item in sessions:
                if session.get(SessionRow, (run_id, item.session_id)) is None:
                    session.add(_session_row(run_id, item))
                    last = final.get(item.session_id)
                    place = _place(item, last[0].node_id, last[0].fitness, last[0].features, last[1]) if last else None
                    if needs is not None and needs.visits and item.parents and item.parents[0] not in settling.places:
                        settling.know(load_path(session, run_id, item.parents[0]))
                    settling.settle(_settled(item, place, step + added - 1, needs or Needs()))
            session.flush()
            _write_places(session, run_id, settling)
        return added

    def close_place(self, run_id: str, parents: Sequence[str]) -> None:
        """Take these parents (none: drafts) out of the frontier for good; closing them again changes nothing."""
        with self._write_run(run_id) as session:
            settling = Settling(lambda place_id: load_place(session, run_id, place_id))
            missing = CLOSED_AT - settling.get(parents_key(parents)).exhaustion
            if missing > 0:
                settling.settle(Settled(tuple(parents), _num_nodes(session, run_id) - 1, exhaustion=missing))
                _write_places(session, run_id, settling)

    def rebuild_places(self, run_id: str, needs: Needs) -> None:
        """Work the statistics out anew from the sessions and nodes, if there are sessions but no statistics (a run begun by an older version)."""
        with self._write_run(run_id) as session:
            has_places = session.scalar(select(PlaceRow.place_id).where(PlaceRow.run_id == run_id).limit(1))
            if has_places is not None:
                return
            settling = self._settle_all(session, run_id, needs)
            _write_places(session, run_id, settling)

    def _settle_all(self, session: Session, run_id: str, needs: Needs) -> Settling:
        columns = (NodeRow.session_id, NodeRow.node_id, NodeRow.fitness, NodeRow.features, NodeRow.step)
        nodes = {row[0]: row for row in session.execute(select(*columns).where(NodeRow.run_id == run_id).order_by(NodeRow.step))}
        settling = Settling(lambda _: None)
        latest = -1
        for item in self.sessions(run_id):
            row = nodes.get(item.session_id)
            latest = row[4] if row else latest
            place = _place(item, row[1], row[2], row[3], row[4]) if row else None
            settling.settle(_settled(item, place, latest, needs))
        return settling

    def counted(self, run_id: str) -> Spent:
        """Return what the run has used up, added up from the single entries; `spent` reads running totals and is as good."""
        with self._read() as session:
            mine = EvaluationRow.run_id == run_id
            counts = dict(
                session.execute(select(EvaluationRow.purpose, func.count()).where(mine).group_by(EvaluationRow.purpose)).tuples().all()
            )
            device = session.scalar(select(func.sum(EvaluationRow.seconds)).where(mine))
            summed = select(LedgerRow.kind, func.sum(LedgerRow.amount)).where(LedgerRow.run_id == run_id).group_by(LedgerRow.kind)
            ledger = dict(session.execute(summed).tuples().all())
            return Spent(
                evaluations=sum(counts.values()),
                remeasurements=counts.get("final", 0),
                seconds=_run_row(session, run_id).seconds,
                device_seconds=float(device or 0.0),
                tokens=int(ledger.get("tokens", 0)),
                dollars=float(ledger.get("dollars", 0.0)),
            )

    def graph(self, run_id: str) -> StoredGraph:
        """Return the run's graph as strategies see it."""
        return StoredGraph(self._read, run_id)

    def graph_as_of(self, run_id: str, step: int) -> MemoryGraph:
        """Rebuild the state of the search as it was when logical step `step` had been recorded, from the nodes and the change log."""
        graph = MemoryGraph()
        with self._read() as session:
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
            rows = session.scalars(
                select(ChangeRow).where(ChangeRow.run_id == run_id, ChangeRow.step <= step).order_by(ChangeRow.change_id)
            )
            graph.apply(Change(row.step, row.place_id, row.field, row.value) for row in rows)
        return graph

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
            return _num_nodes(session, run_id)

    def nodes(self, run_id: str, since: int = 0, until: int | None = None) -> list[NodeRecord]:
        """Return the nodes of a run from logical step `since` on, those before `until` if it is given, in logical order."""
        query = select(NodeRow).where(NodeRow.run_id == run_id, NodeRow.step >= since).order_by(NodeRow.step)
        if until is not None:
            query = query.where(NodeRow.step < until)
        with self._read() as session:
            return [self._node(row) for row in session.scalars(query)]

    def nodes_by_id(self, run_id: str, node_ids: Sequence[str]) -> list[NodeRecord]:
        """Return these nodes in logical order; ids that are unknown are left out."""
        with self._read() as session:
            query = select(NodeRow).where(NodeRow.run_id == run_id, NodeRow.node_id.in_(node_ids)).order_by(NodeRow.step)
            return [self._node(row) for row in session.scalars(query)]

    def node_with_source(self, run_id: str, source_hash: str, until: int | None = None) -> str | None:
        """Return the id of the earliest node with this normalised source, among those before logical step `until`; None if there is none."""
        query = select(NodeRow.node_id).where(NodeRow.run_id == run_id, NodeRow.source_hash == source_hash)
        if until is not None:
            query = query.where(NodeRow.step < until)
        with self._read() as session:
            return session.scalar(query.order_by(NodeRow.step).limit(1))

    def ancestors(self, run_id: str, node_ids: Sequence[str], limit: int | None = None) -> list[str]:
        """Return the ids of nodes with all that led to them, nearest first, at most `limit`; by a recursive query."""
        if not node_ids:
            return []
        start = select(NodeRow.node_id.label("node_id")).where(NodeRow.run_id == run_id, NodeRow.node_id.in_(node_ids))
        up = start.cte("up", recursive=True)
        up = up.union(select(EdgeRow.parent_id).join(up, EdgeRow.child_id == up.c.node_id).where(EdgeRow.run_id == run_id))
        with self._read() as session:
            return list(session.scalars(select(up.c.node_id).limit(limit)))

    def siblings(self, run_id: str, parents: Sequence[str], limit: int | None = None, until: int | None = None) -> list[str]:
        """Return the ids of the latest nodes of sessions that expanded exactly these parents (none: drafts), latest first."""
        chosen = (
            select(SessionRow.session_id)
            .where(SessionRow.run_id == run_id, SessionRow.parents_key == parents_key(parents))
            .order_by(SessionRow.round.desc(), SessionRow.sibling.desc())
            .limit(limit)
        )
        with self._read() as session:
            query = select(NodeRow.step, NodeRow.node_id).where(
                NodeRow.run_id == run_id, NodeRow.session_id.in_(session.scalars(chosen).all())
            )
            found = session.execute(query if until is None else query.where(NodeRow.step < until)).tuples().all()
        return [node_id for _, node_id in sorted(found, reverse=True)][:limit]

    def node_summaries(self, run_id: str, latest: int | None = None) -> list[NodeSummary]:
        """Return the nodes of a run in logical order, or the `latest` so many, without sources and samples."""
        columns = (NodeRow.node_id, NodeRow.session_id, NodeRow.round, NodeRow.fitness, NodeRow.status, NodeRow.features)
        with self._read() as session:
            rows = session.execute(select(*columns).where(NodeRow.run_id == run_id).order_by(NodeRow.step.desc()).limit(latest)).all()
            return [NodeSummary(row[0], row[1], row[2], row[3], Status(row[4]), row[5]) for row in reversed(rows)]

    def sessions_since(self, run_id: str, node: NodeRecord, limit: int) -> int:
        """Return how many sessions brought nodes after this one, counted up to `limit`."""
        later = (
            select(NodeRow.session_id)
            .where(NodeRow.run_id == run_id, NodeRow.step > node.step, NodeRow.session_id != node.session_id)
            .distinct()
            .limit(limit)
        )
        with self._read() as session:
            return session.scalar(select(func.count()).select_from(later.subquery())) or 0

    def best_nodes(self, run_id: str, limit: int) -> list[NodeRecord]:
        """Return the fittest nodes that passed, best first, the earlier of equals first."""
        query = select(NodeRow).where(NodeRow.run_id == run_id, NodeRow.fitness > 0)
        with self._read() as session:
            return [self._node(row) for row in session.scalars(query.order_by(NodeRow.fitness.desc(), NodeRow.step).limit(limit))]

    def best_fitness(self, run_id: str) -> tuple[str, float] | None:
        """Return id and fitness of the fittest node that passed, the earliest of equals; None if none did."""
        query = select(NodeRow.node_id, NodeRow.fitness).where(NodeRow.run_id == run_id, NodeRow.fitness > 0)
        with self._read() as session:
            row = session.execute(query.order_by(NodeRow.fitness.desc(), NodeRow.step).limit(1)).first()
            return (row[0], row[1]) if row is not None else None

    def repairs(self, run_id: str, evaluation: Evaluation, *, known: int, limit: int = 3) -> list[Repair]:
        """Return how failures with the same error signature were mended: in this run before logical step `known`, or in earlier runs."""
        signature = error_signature(evaluation)
        if not signature:
            return []
        found: list[Repair] = []
        with self._read() as session:
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
                    found.append(Repair(owner, self._node(before), self._node(row)))
                if len(found) == limit:
                    break
        return found

    def sessions(self, run_id: str) -> list[SessionRecord]:
        """Return the recorded sessions of a run in the order of their rounds."""
        with self._read() as session:
            rows = session.scalars(select(SessionRow).where(SessionRow.run_id == run_id).order_by(SessionRow.round, SessionRow.sibling))
            return [
                SessionRecord(
                    session_id=row.session_id,
                    round=row.round,
                    sibling=row.sibling,
                    parents=tuple(row.parents),
                    memory=Memory(row.memory),
                    algorithm=row.algorithm,
                    outcome=Outcome(row.outcome),
                )
                for row in rows
            ]

    def find_node(self, prefix: str) -> tuple[str, NodeRecord]:
        """Return the run id and the node whose id begins with `prefix`.

        Raises:
            UnknownNameError: None or several do.
        """
        with self._read() as session:
            rows = list(session.scalars(select(NodeRow).where(NodeRow.node_id.startswith(prefix, autoescape=True)).limit(2)))
            if len(rows) != 1:
                raise UnknownNameError(
                    f"{'several nodes begin' if rows else 'no run or node begins'} with {prefix!r}; `kevolve runs` lists the runs"
                )
            return rows[0].run_id, self._node(rows[0])

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
        with self._write() as session:
            row = _run_row(session, run_id)
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

    # --- internals -------------------------------------------------------------------------------------------------------

    @contextmanager
    def _read(self) -> Iterator[Session]:
        try:
            with Session(self._engine) as session:
                yield session
        except DatabaseError as error:
            raise RunStoreError(f"cannot read the run store {self._engine.url}: {error.orig}") from error

    @contextmanager
    def _write(self, is_precious: bool = True) -> Iterator[Session]:
        """Commit a transaction; a precious one survives a power failure too, any other the end of this process."""
        try:
            with Session(self._writer) as session:
                if self.is_sqlite:
                    session.connection(execution_options={"precious": is_precious})
                yield session
                session.commit()
        except DatabaseError as error:
            raise RunStoreError(
                f"cannot write the run store {self._engine.url}: {error.orig}; check free space and permissions, or choose another --home"
            ) from error

    @contextmanager
    def _write_run(self, run_id: str, is_precious: bool = True) -> Iterator[Session]:
        holder = self._holders.get(run_id)
        if holder is None:
            raise RunStateError(f"this process does not hold the lease of run {run_id}; acquire it first")
        lease = select(RunRow.lease_owner, RunRow.lease_pid, RunRow.lease_host).where(RunRow.run_id == run_id).with_for_update()
        with self._write(is_precious) as session:
            row = session.execute(lease).one()
            if row[0] != holder.owner:
                raise RunStateError(f"run {run_id} was taken over by process {row[1]} on {row[2]}; this process stops")
            yield session

    def _is_driven(self, row: RunRow) -> bool:
        if row.lease_owner is None:
            return False
        holder = Holder(owner=row.lease_owner, host=row.lease_host or "", pid=row.lease_pid or 0, started=row.lease_started or "")
        return is_alive(holder, beat=row.lease_beat or 0.0, now=self._clock())

    def _record(self, row: RunRow) -> RunRecord:
        return RunRecord(
            run_id=row.run_id,
            created=row.created,
            status=RunStatus(row.status),
            problem=Problem(**row.problem),
            target=row.target,
            strategy=row.strategy,
            coder=row.coder,
            seed=row.seed,
            config=row.config,
            versions=row.versions,
            result=row.result,
            seconds=row.seconds,
            is_driven=self._is_driven(row),
        )

    def _candidate(self, artifact: str, data: Mapping[str, Any]) -> Candidate:  # Any: JSON
        return Candidate(source=self.artifacts.read(artifact), **data)

    def _attempt(self, row: AttemptRow) -> AttemptRecord:
        return AttemptRecord(
            attempt=row.attempt,
            candidate=self._candidate(row.artifact, row.candidate) if row.artifact else None,
            source_hash=row.source_hash or "",
            artifact=row.artifact or "",
            notes=row.draft["notes"],
            chunk_ids=tuple(row.draft["chunk_ids"]),
            diagnosis=row.diagnosis,
            evaluation=Evaluation.from_json(row.evaluation) if row.evaluation else None,
            duplicate_of=row.duplicate_of or "",
        )

    def _node(self, row: NodeRow) -> NodeRecord:
        return NodeRecord(
            node_id=row.node_id,
            step=row.step,
            round=row.round,
            session_id=row.session_id,
            attempt=row.attempt,
            parents=tuple(row.parents),
            candidate=self._candidate(row.artifact, row.candidate),
            source_hash=row.source_hash,
            artifact=row.artifact,
            evaluation=Evaluation.from_json(row.evaluation),
            notes=row.notes,
            chunk_ids=tuple(row.chunk_ids),
            diagnosis=row.diagnosis,
            algorithm=row.algorithm,
            features=row.features,
        )


def replayed(store: RunStore, run_id: str, needs: Needs) -> list[Place]:
    """Return the places of a run as they follow from its sessions and nodes alone, in logical order."""
    with store._read() as session:
        settling = store._settle_all(session, run_id, needs)
    return sorted(settling.places.values(), key=lambda place: place.position)


def new_attempt(
    attempt: int,
    candidate: Candidate | None,
    *,
    notes: str,
    chunk_ids: Sequence[str] = (),
    diagnosis: Mapping[str, Any] | None = None,  # Any: JSON
    duplicate_of: str = "",
) -> AttemptRecord:
    """Build the record of a fresh draft; its hash is worked out here."""
    return AttemptRecord(
        attempt=attempt,
        candidate=candidate,
        source_hash=normalised_hash(candidate) if candidate else "",
        artifact="",
        notes=notes,
        chunk_ids=tuple(chunk_ids),
        diagnosis=dict(diagnosis or {}),
        duplicate_of=duplicate_of,
    )


def _candidate_to_json(candidate: Candidate) -> dict[str, Any]:  # Any: JSON
    return {
        "language": candidate.language,
        "build_options": dict(candidate.build_options),
        "provenance": dict(candidate.provenance),
    }


def _session_row(run_id: str, item: SessionRecord) -> SessionRow:
    return SessionRow(
        run_id=run_id,
        session_id=item.session_id,
        round=item.round,
        sibling=item.sibling,
        parents=list(item.parents),
        memory=item.memory.value,
        algorithm=dict(item.algorithm),
        outcome=item.outcome.value,
        parents_key=parents_key(item.parents),
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


def _write_places(session: Session, run_id: str, settling: Settling) -> None:
    made = set(settling.made)
    changed = {change.place_id for change in settling.changes}
    if made:
        rows = [{"run_id": run_id, **columns_of(settling.places[place_id])} for place_id in settling.made]
        session.execute(insert(PlaceRow), rows)
    if changed - made:
        table = PlaceRow.__table__
        named: dict[str, Any] = {name: bindparam(f"new_{name}") for name in (*MUTABLE, "is_open")}  # Any: SQL expressions
        statement = update(PlaceRow).where(table.c.run_id == run_id, table.c.place_id == bindparam("changed_id")).values(**named)
        rows = []
        for place_id in sorted(changed - made):
            place = settling.places[place_id]
            rows.append({"changed_id": place_id, **{f"new_{name}": getattr(place, name) for name in named}})
        session.connection().execute(statement, rows)
    if settling.changes:
        session.execute(insert(ChangeRow), [{"run_id": run_id, **dataclasses.asdict(change)} for change in settling.changes])


def _num_nodes(session: Session, run_id: str) -> int:
    last = session.scalar(select(func.max(NodeRow.step)).where(NodeRow.run_id == run_id))
    return 0 if last is None else last + 1


def _insert_once(session: Session, row: type[Any]) -> Any:  # Any: each dialect's own `Insert`
    """Return an insert that leaves a row that is there already alone."""
    if session.get_bind().dialect.name == "postgresql":
        from sqlalchemy.dialects import postgresql

        return postgresql.insert(row).on_conflict_do_nothing()
    from sqlalchemy.dialects import sqlite

    return sqlite.insert(row).on_conflict_do_nothing()


def _node_row(run_id: str, node: NodeRecord, step: int) -> NodeRow:
    return NodeRow(
        run_id=run_id,
        node_id=node.node_id,
        step=step,
        round=node.round,
        session_id=node.session_id,
        attempt=node.attempt,
        parents=list(node.parents),
        candidate_id=node.candidate.candidate_id,
        source_hash=node.source_hash,
        artifact=node.artifact,
        candidate=_candidate_to_json(node.candidate),
        status=node.evaluation.status.value,
        fitness=node.fitness,
        evidence=node.evaluation.evidence.value,
        evaluation=node.evaluation.to_json(),
        notes=node.notes,
        chunk_ids=list(node.chunk_ids),
        diagnosis=dict(node.diagnosis),
        algorithm=dict(node.algorithm),
        features=dict(node.features),
        error_signature=error_signature(node.evaluation),
    )


def _run_row(session: Session, run_id: str) -> RunRow:
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


def _lease_columns(holder: Holder, now: float) -> dict[str, Any]:  # Any: column values of several types
    return {
        "lease_owner": holder.owner,
        "lease_host": holder.host,
        "lease_pid": holder.pid,
        "lease_started": holder.started,
        "lease_beat": now,
    }


def database_url(url: str) -> str:
    """Return the address with the driver that we use: psycopg 3 for PostgreSQL.

    Raises:
        RunStoreError: It is no address of a database, or not of SQLite or PostgreSQL.
    """
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise RunStoreError(f"{url!r} is not the address of a database; give for example postgresql://user@host/name") from error
    if parsed.drivername in ("postgresql", "postgres"):
        parsed = parsed.set(drivername="postgresql+psycopg")
    if parsed.get_backend_name() not in ("sqlite", "postgresql"):
        raise RunStoreError(f"the run store works with sqlite and postgresql, not with {parsed.get_backend_name()!r}")
    return parsed.render_as_string(hide_password=False)


def _engine(url: str) -> Engine:
    try:
        engine = create_engine(url)
    except ImportError as error:
        raise RunStoreError("a run store in PostgreSQL needs its driver: pip install 'kernelevolve[postgres]'") from error
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _configure_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    return engine


def _configure_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None  # the `begin` listener decides how a transaction starts
    connection.execute("PRAGMA busy_timeout=30000")
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA foreign_keys=ON")


def _begin_sqlite(connection: Any) -> None:  # Any: SQLAlchemy passes its Connection through an untyped hook
    options = connection.get_execution_options()
    if options.get("immediate"):
        # In WAL mode FULL syncs the log, and with it every earlier commit, at this commit; NORMAL leaves that to a later one.
        connection.exec_driver_sql(f"PRAGMA synchronous={'FULL' if options.get('precious', True) else 'NORMAL'}")
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    else:
        connection.exec_driver_sql("BEGIN")
