"""The run store: runs, sessions, attempts, nodes, evaluations, events and ledger in one SQL database, with a lease per run.

Everything that must not be lost is committed before the call returns. Inserts that may be repeated after a kill are keyed by content, so that
repeating them changes nothing. Only the holder of a run's lease may write to it.
"""

from __future__ import annotations

import dataclasses
import sqlite3
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from sqlalchemy import create_engine, event, func, select
from sqlalchemy.engine import Engine
from sqlalchemy.exc import DatabaseError
from sqlalchemy.orm import Session

from agents.errors import RunStateError, RunStoreError, UnknownNameError
from agents.runs.artifacts import Artifacts
from agents.runs.hashing import normalised_hash
from agents.runs.lease import Holder, is_alive
from agents.runs.models import (
    SCHEMA_VERSION,
    AttemptRow,
    EvaluationRow,
    EventRow,
    LedgerRow,
    Meta,
    NodeRow,
    Row,
    RunRow,
    SessionRow,
)
from agents.runs.records import AttemptRecord, Event, NodeRecord, NodeSummary, Outcome, RunRecord, RunStatus, SessionRecord, Spent
from agents.types import Memory
from tools.types import Candidate, Evaluation, Problem, Status

Clock = Callable[[], float]


class RunStore:
    """Runs under one home directory.

    Args:
        home: State directory; `runs.sqlite` and `artifacts/` live in it.
        url: SQLAlchemy URL of another database, for example `postgresql+psycopg://…`; None: SQLite in `home`.
        clock: Seconds since the epoch.

    Raises:
        RunStoreError: The database is of a newer schema (it is left untouched), is no run store, or cannot be written.
    """

    def __init__(self, home: Path, url: str | None = None, clock: Clock = time.time) -> None:
        self.home = home
        self.artifacts = Artifacts(home / "artifacts")
        self._clock = clock
        self._holders: dict[str, Holder] = {}
        if url is None:
            path = home / "runs.sqlite"
            _refuse_newer_schema(path)
            try:
                home.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise RunStoreError(f"cannot create {home}: {error.strerror}; choose another --home") from error
            url = f"sqlite:///{path}"
        self._engine = create_engine(url)
        self._is_sqlite = self._engine.dialect.name == "sqlite"
        if self._is_sqlite:
            event.listen(self._engine, "connect", _configure_sqlite)
            event.listen(self._engine, "begin", _begin_sqlite)
        self._writer: Engine = self._engine.execution_options(immediate=True)
        with self._write() as session:
            Row.metadata.create_all(session.connection())
            stamped = session.get(Meta, "schema_version")
            if stamped is None:
                session.add(Meta(key="schema_version", value=str(SCHEMA_VERSION)))
            elif int(stamped.value) > SCHEMA_VERSION:
                raise RunStoreError(_newer_schema_message(url, int(stamped.value)))

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
        with self._write() as session:
            session.add(
                RunRow(
                    run_id=run_id,
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
            row = _run_row(session, run_id)
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
        with self._write_run(run_id, is_precious=False) as (_, row):
            row.lease_beat = self._clock()
            row.seconds = row.seconds + seconds

    def finish(self, run_id: str, result: Mapping[str, Any]) -> None:  # Any: JSON
        """Publish the result and close the run."""
        with self._write_run(run_id) as (_, row):
            row.result = dict(result)
            row.status = RunStatus.FINISHED.value

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
    ) -> None:
        """Store a draft before it is evaluated; a draft that is there already stays as it is."""
        artifact = self.artifacts.write(record.candidate.source) if record.candidate else None
        with self._write_run(run_id) as (session, _):
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

    def set_attempt_evaluation(self, run_id: str, session_id: str, attempt: int, evaluation: Evaluation) -> None:
        """Fill in what became of a draft; the first word stands."""
        with self._write_run(run_id) as (session, _):
            row = session.get(AttemptRow, (run_id, session_id, attempt))
            if row is None:
                raise UnknownNameError(f"run {run_id} has no attempt {attempt} in session {session_id!r}")
            if row.evaluation is None:
                row.evaluation = evaluation.to_json()

    # --- evaluations ---------------------------------------------------------------------------------------------------

    def evaluation(self, run_id: str, source_hash: str, purpose: str) -> Evaluation | None:
        """Return the evaluation made for this purpose (`search` or `final`), or None."""
        with self._read() as session:
            row = session.get(EvaluationRow, (run_id, source_hash, purpose))
            return Evaluation.from_json(row.evaluation) if row else None

    def add_evaluation(self, run_id: str, source_hash: str, purpose: str, evaluation: Evaluation) -> None:
        """Store an evaluation durably and count it once."""
        with self._write_run(run_id) as (session, _):
            if session.get(EvaluationRow, (run_id, source_hash, purpose)) is None:
                session.add(
                    EvaluationRow(
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
        with self._read() as session:
            counted = select(EvaluationRow.purpose, func.count()).where(EvaluationRow.run_id == run_id).group_by(EvaluationRow.purpose)
            counts: dict[str, int] = {row[0]: row[1] for row in session.execute(counted)}
            device = session.scalar(select(func.sum(EvaluationRow.seconds)).where(EvaluationRow.run_id == run_id))
            summed = select(LedgerRow.kind, func.sum(LedgerRow.amount)).where(LedgerRow.run_id == run_id).group_by(LedgerRow.kind)
            ledger: dict[str, float] = {row[0]: row[1] for row in session.execute(summed)}
            return Spent(
                evaluations=sum(counts.values()),
                remeasurements=counts.get("final", 0),
                seconds=_run_row(session, run_id).seconds,
                device_seconds=float(device or 0.0),
                tokens=int(ledger.get("tokens", 0)),
                dollars=float(ledger.get("dollars", 0.0)),
            )

    # --- nodes and events ----------------------------------------------------------------------------------------------

    def record_round(self, run_id: str, sessions: Sequence[SessionRecord], nodes: Sequence[NodeRecord]) -> int:
        """Insert the sessions and nodes of one round in one transaction; what is there already stays. Returns how many nodes were new.

        The nodes' `step` is ignored: they get the next logical steps in the given order.
        """
        added = 0
        with self._write_run(run_id) as (session, _):
            step = session.scalar(select(func.count()).select_from(NodeRow).where(NodeRow.run_id == run_id)) or 0
            for item in sessions:
                if session.get(SessionRow, (run_id, item.session_id)) is None:
                    session.add(
                        SessionRow(
                            run_id=run_id,
                            session_id=item.session_id,
                            round=item.round,
                            sibling=item.sibling,
                            parents=list(item.parents),
                            memory=item.memory.value,
                            algorithm=dict(item.algorithm),
                            outcome=item.outcome.value,
                        )
                    )
            for node in nodes:
                if session.get(NodeRow, (run_id, node.node_id)) is None:
                    session.add(_node_row(run_id, node, step + added))
                    added += 1
        return added

    def nodes(self, run_id: str, since: int = 0) -> list[NodeRecord]:
        """Return the nodes of a run from logical step `since` on, in logical order."""
        with self._read() as session:
            rows = session.scalars(select(NodeRow).where(NodeRow.run_id == run_id, NodeRow.step >= since).order_by(NodeRow.step))
            return [self._node(row) for row in rows]

    def node_summaries(self, run_id: str) -> list[NodeSummary]:
        """Return all nodes of a run in logical order, without sources and samples."""
        columns = (NodeRow.node_id, NodeRow.session_id, NodeRow.fitness, NodeRow.status, NodeRow.features)
        with self._read() as session:
            rows = session.execute(select(*columns).where(NodeRow.run_id == run_id).order_by(NodeRow.step))
            return [NodeSummary(node_id=row[0], session_id=row[1], fitness=row[2], status=Status(row[3]), features=row[4]) for row in rows]

    def best_nodes(self, run_id: str, limit: int) -> list[NodeRecord]:
        """Return the fittest nodes that passed, best first, the earlier of equals first."""
        with self._read() as session:
            rows = session.scalars(
                select(NodeRow)
                .where(NodeRow.run_id == run_id, NodeRow.fitness > 0)
                .order_by(NodeRow.fitness.desc(), NodeRow.step)
                .limit(limit)
            )
            return [self._node(row) for row in rows]

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
        with self._write_run(run_id, is_precious=False) as (session, _):
            session.add(EventRow(run_id=run_id, time=self._clock(), kind=item.kind, data=dict(item.data)))

    def events(self, run_id: str, kind: str | None = None) -> list[Event]:
        """Return the events of a run in order, all or of one kind."""
        with self._read() as session:
            query = select(EventRow).where(EventRow.run_id == run_id).order_by(EventRow.event_id)
            if kind is not None:
                query = query.where(EventRow.kind == kind)
            return [Event(kind=row.kind, data=row.data) for row in session.scalars(query)]

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
                if self._is_sqlite:
                    session.connection(execution_options={"precious": is_precious})
                yield session
                session.commit()
        except DatabaseError as error:
            raise RunStoreError(
                f"cannot write the run store {self._engine.url}: {error.orig}; check free space and permissions, or choose another --home"
            ) from error

    @contextmanager
    def _write_run(self, run_id: str, is_precious: bool = True) -> Iterator[tuple[Session, RunRow]]:
        holder = self._holders.get(run_id)
        if holder is None:
            raise RunStateError(f"this process does not hold the lease of run {run_id}; acquire it first")
        with self._write(is_precious) as session:
            row = _run_row(session, run_id)
            if row.lease_owner != holder.owner:
                raise RunStateError(f"run {run_id} was taken over by process {row.lease_pid} on {row.lease_host}; this process stops")
            yield session, row

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


def _refuse_newer_schema(path: Path) -> None:
    """Look at an existing database read-only, so that a newer one is not touched."""
    if not path.exists() or path.stat().st_size == 0:
        return
    try:
        connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
        try:
            row = connection.execute("SELECT value FROM meta WHERE key = 'schema_version'").fetchone()
        finally:
            connection.close()
    except sqlite3.DatabaseError as error:
        raise RunStoreError(f"{path} is not a run store ({error}); move it away or choose another --home") from error
    if row is not None and int(row[0]) > SCHEMA_VERSION:
        raise RunStoreError(_newer_schema_message(str(path), int(row[0])))


def _newer_schema_message(place: str, version: int) -> str:
    return (
        f"{place} was written by a newer version (schema {version}, this one knows {SCHEMA_VERSION}); it was left untouched. "
        "Upgrade the package or choose another --home"
    )
