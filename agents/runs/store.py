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

from sqlalchemy import Connection, Table, bindparam, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from agents.errors import RunStateError, RunStoreError
from agents.runs import drafts, growth, questions
from agents.runs.artifacts import open_artifacts
from agents.runs.database import Database, database_url
from agents.runs.hashing import derived_id
from agents.runs.lease import Holder
from agents.runs.leases import Clock, Leases
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
from agents.runs.rows import new_attempt, run_record
from agents.runs.schema import refuse_newer_file
from agents.runs.stored_graph import StoredGraph
from agents.runs.tables import REQUESTS, RUNS, TASKS
from agents.strategies.base import Needs
from agents.strategies.memory_graph import MemoryGraph
from agents.strategies.places import Change, Place
from tools.types import Evaluation, Problem, Status

METRIC = "speedup"
"""What fitness means: speedup over the stronger of eager and compiled."""
_THIS_RUN = RUNS.c.run_id == bindparam("of_run")
_BEAT = update(RUNS).where(_THIS_RUN).values(lease_beat=bindparam("now"), seconds=RUNS.c.seconds + bindparam("more_seconds"))
_SPENT = select(*(RUNS.c[field.name] for field in dataclasses.fields(Spent))).where(_THIS_RUN)
_REQUESTS = (
    select(REQUESTS.c.request_id, REQUESTS.c.kind, REQUESTS.c.text)
    .where(REQUESTS.c.run_id == bindparam("of_run"), REQUESTS.c.request_id > bindparam("after"))
    .order_by(REQUESTS.c.request_id)
)
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
        task = {
            "task_id": task_id,
            "problem_id": problem.problem_id,
            "problem_hash": problem.source_hash,
            "target": target,
            "metric": METRIC,
        }
        run = {
            "run_id": run_id,
            "task_id": task_id,
            "created": self._clock(),
            "status": RunStatus.OPEN.value,
            "target": target,
            "strategy": strategy,
            "coder": coder,
            "seed": seed,
            "problem": dataclasses.asdict(problem),
            "problem_hash": problem.source_hash,
            "config": dict(config),
            "versions": dict(versions),
            "result": None,
            "seconds": 0.0,
            **self._leases.columns(holder),
        }
        with self._database.writing() as connection:
            connection.execute(_insert_once(connection, TASKS).values(**task, signature=""))
            connection.execute(insert(RUNS).values(**run))
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
        with self._write_run(run_id, is_precious=False) as connection:
            connection.execute(_BEAT, {"of_run": run_id, "now": self._clock(), "more_seconds": seconds})

    def finish(self, run_id: str, result: Mapping[str, Any]) -> None:  # Any: JSON
        """Publish the result and close the run."""
        with self._write_run(run_id) as connection:
            values = {"result": dict(result), "status": RunStatus.FINISHED.value}
            connection.execute(update(RUNS).where(RUNS.c.run_id == run_id).values(**values))

    def run(self, run_id: str) -> RunRecord:
        """Return a run by its id or an unambiguous beginning of it.

        Raises:
            UnknownNameError: There is no such run, or several; the message lists the latest or the fitting ones.
        """
        with self._read() as connection:
            row = run_row(connection, run_id)
            return run_record(row, self._leases.is_driven(row))

    def runs(self, limit: int | None = None) -> list[RunRecord]:
        """Return runs, latest first."""
        with self._read() as connection:
            rows = connection.execute(select(RUNS).order_by(RUNS.c.created.desc()).limit(limit))
            return [run_record(row, self._leases.is_driven(row)) for row in rows]

    # --- sessions and attempts ---------------------------------------------------------------------------------------

    def attempts(self, run_id: str, session_id: str) -> list[AttemptRecord]:
        """Return the drafts of a session in order."""
        with self._read() as connection:
            return drafts.attempts(connection, self.artifacts, run_id, session_id)

    def add_attempt(
        self,
        run_id: str,
        session_id: str,
        record: AttemptRecord,
        *,
        tokens: int = 0,
        dollars: float = 0.0,
        messages: Sequence[Message] = (),
        events: Sequence[Event] = (),
    ) -> None:
        """Store a draft, with the messages that led to it and what is told of it, before it is evaluated; a draft that is there already stays as it is."""
        artifact = self.artifacts.write(record.candidate.source) if record.candidate else None
        texts = [(message, self.artifacts.write(message.text)) for message in messages]
        with self._write_run(run_id) as connection:
            if drafts.add_attempt(connection, run_id, session_id, record, artifact, texts):
                drafts.spend(connection, run_id, f"{session_id}:{record.attempt}", {"tokens": tokens, "dollars": dollars})
                drafts.tell(connection, run_id, self._clock(), events)

    def messages(self, run_id: str, session_id: str, attempt: int) -> list[Message]:
        """Return what was sent to and came from a model for one attempt, in order."""
        with self._read() as connection:
            found = drafts.messages_of(connection, run_id, session_id, attempt)
        return [Message(role, self.artifacts.read(artifact)) for role, artifact in found]

    def spend(self, run_id: str, key: str, *, tokens: int = 0, dollars: float = 0.0) -> None:
        """Count what something cost, once for each key."""
        with self._write_run(run_id, is_precious=False) as connection:
            drafts.spend(connection, run_id, key, {"tokens": tokens, "dollars": dollars})

    def set_attempt_evaluation(
        self, run_id: str, session_id: str, attempt: int, evaluation: Evaluation, events: Sequence[Event] = ()
    ) -> None:
        """Fill in what became of a draft, and append what is told of it; of evaluations the first stands."""
        # What was measured is durable in the evaluations already; a repeat after a power failure finds it there.
        with self._write_run(run_id, is_precious=evaluation.status is Status.LINT_ERROR) as connection:
            drafts.fill_in(connection, run_id, session_id, attempt, evaluation)
            drafts.tell(connection, run_id, self._clock(), events)

    # --- evaluations ---------------------------------------------------------------------------------------------------

    def evaluation(self, run_id: str, source_hash: str, purpose: str) -> Evaluation | None:
        """Return the evaluation made for this purpose (`search` or `final`), or None."""
        with self._read() as connection:
            return drafts.evaluation(connection, run_id, source_hash, purpose)

    def add_evaluation(self, run_id: str, source_hash: str, purpose: str, evaluation: Evaluation) -> None:
        """Store an evaluation durably and count it once."""
        with self._write_run(run_id) as connection:
            drafts.add_evaluation(connection, run_id, source_hash, purpose, evaluation)

    def hangs(self, target: str, source_hash: str) -> bool:
        """Return whether this source is known, from any run, to run into the time limit on the target."""
        with self._read() as connection:
            return drafts.hangs(connection, target, source_hash)

    def spent(self, run_id: str) -> Spent:
        """Return what the run has used up."""
        with self._read() as connection:
            row = connection.execute(_SPENT, {"of_run": run_id}).first()
            row = row or connection.execute(_SPENT, {"of_run": run_row(connection, run_id).run_id}).one()
            return Spent(*row)

    # --- nodes and events ----------------------------------------------------------------------------------------------

    def record_round(self, run_id: str, sessions: Sequence[SessionRecord], nodes: Sequence[NodeRecord], needs: Needs | None = None) -> int:
        """Insert the sessions and nodes of one round in one transaction; what is there already stays. Returns how many nodes were new.

        The nodes' `step` is ignored: they get the next logical steps in the given order. The statistics of the places change with them, and
        every change is logged.

        Args:
            needs: Statistics that the run's strategy wants kept.
        """
        with self._write_run(run_id) as connection:
            return growth.record_round(connection, run_id, sessions, nodes, needs or Needs())

    def close_place(self, run_id: str, parents: Sequence[str]) -> None:
        """Take these parents (none: drafts) out of the frontier for good; closing them again changes nothing."""
        with self._write_run(run_id) as connection:
            growth.close_place(connection, run_id, parents)

    def rebuild_places(self, run_id: str, needs: Needs) -> None:
        """Work the statistics out anew from the sessions and nodes, if there are sessions but no statistics (a run begun by an older version)."""
        with self._write_run(run_id) as connection:
            growth.rebuild_places(connection, run_id, needs)

    def counted(self, run_id: str) -> Spent:
        """Return what the run has used up, added up from the single entries; `spent` reads running totals and is as good."""
        with self._read() as connection:
            return questions.counted(connection, run_id)

    def graph(self, run_id: str) -> StoredGraph:
        """Return the run's graph as strategies see it."""
        return StoredGraph(self._read, run_id)

    def graph_as_of(self, run_id: str, step: int) -> MemoryGraph:
        """Rebuild the state of the search as it was when logical step `step` had been recorded, from the nodes and the change log."""
        with self._read() as connection:
            return questions.graph_as_of(connection, run_id, step)

    def changes(self, run_id: str, place_id: str | None = None) -> list[Change]:
        """Return the change log of a run, or of one of its places, in order."""
        with self._read() as connection:
            return questions.changes(connection, run_id, place_id)

    def num_nodes(self, run_id: str) -> int:
        """Return how many nodes are recorded; the next one gets this logical step."""
        with self._read() as connection:
            return questions.num_nodes(connection, run_id)

    def nodes(self, run_id: str, since: int = 0, until: int | None = None) -> list[NodeRecord]:
        """Return the nodes of a run from logical step `since` on, those before `until` if it is given, in logical order."""
        with self._read() as connection:
            return questions.nodes(connection, self.artifacts, run_id, since, until)

    def nodes_by_id(self, run_id: str, node_ids: Sequence[str]) -> list[NodeRecord]:
        """Return these nodes in logical order; ids that are unknown are left out."""
        with self._read() as connection:
            return questions.nodes_by_id(connection, self.artifacts, run_id, node_ids)

    def node_with_source(self, run_id: str, source_hash: str, until: int | None = None) -> str | None:
        """Return the id of the earliest node with this normalised source, among those before logical step `until`; None if there is none."""
        with self._read() as connection:
            return questions.node_with_source(connection, run_id, source_hash, until)

    def ancestors(self, run_id: str, node_ids: Sequence[str], limit: int | None = None) -> list[str]:
        """Return the ids of nodes with all that led to them, nearest first, at most `limit`; by a recursive query."""
        with self._read() as connection:
            return questions.ancestors(connection, run_id, node_ids, limit)

    def siblings(self, run_id: str, parents: Sequence[str], limit: int | None = None, until: int | None = None) -> list[str]:
        """Return the ids of the latest nodes of sessions that expanded exactly these parents (none: drafts), latest first."""
        with self._read() as connection:
            return questions.siblings(connection, run_id, parents, limit, until)

    def node_summaries(self, run_id: str, latest: int | None = None) -> list[NodeSummary]:
        """Return the nodes of a run in logical order, or the `latest` so many, without sources and samples."""
        with self._read() as connection:
            return questions.node_summaries(connection, run_id, latest)

    def sessions_since(self, run_id: str, node: NodeRecord, limit: int) -> int:
        """Return how many sessions brought nodes after this one, counted up to `limit`."""
        with self._read() as connection:
            return questions.sessions_since(connection, run_id, node, limit)

    def best_nodes(self, run_id: str, limit: int) -> list[NodeRecord]:
        """Return the fittest nodes that passed, best first, the earlier of equals first."""
        with self._read() as connection:
            return questions.best_nodes(connection, self.artifacts, run_id, limit)

    def best_fitness(self, run_id: str) -> tuple[str, float] | None:
        """Return id and fitness of the fittest node that passed, the earliest of equals; None if none did."""
        with self._read() as connection:
            return questions.best_fitness(connection, run_id)

    def repairs(self, run_id: str, evaluation: Evaluation, *, known: int, limit: int = 3) -> list[Repair]:
        """Return how failures with the same error signature were mended: in this run before logical step `known`, or in earlier runs."""
        with self._read() as connection:
            return questions.repairs(connection, self.artifacts, run_id, evaluation, known, limit)

    def sessions(self, run_id: str) -> list[SessionRecord]:
        """Return the recorded sessions of a run in the order of their rounds."""
        with self._read() as connection:
            return growth.sessions(connection, run_id)

    def find_node(self, prefix: str) -> tuple[str, NodeRecord]:
        """Return the run id and the node whose id begins with `prefix`.

        Raises:
            UnknownNameError: None or several do.
        """
        with self._read() as connection:
            return questions.find_node(connection, self.artifacts, prefix)

    def add_event(self, run_id: str, item: Event) -> None:
        """Append an event."""
        with self._write_run(run_id, is_precious=False) as connection:
            drafts.tell(connection, run_id, self._clock(), [item])

    def events(self, run_id: str, kind: str | None = None, after: int = 0) -> list[Event]:
        """Return the events of a run in order, all or of one kind, those after number `after`."""
        with self._read() as connection:
            return drafts.events(connection, run_id, kind, after)

    # --- people ------------------------------------------------------------------------------------------------------------

    def ask(self, run_id: str, kind: str, text: str = "") -> None:
        """Leave a request for whoever drives the run; needs no lease.

        Raises:
            UnknownNameError: There is no such run.
            RunStateError: The run is finished.
        """
        with self._database.writing() as connection:
            row = run_row(connection, run_id)
            if row.status != RunStatus.OPEN.value:
                raise RunStateError(f"run {row.run_id} is {row.status}; nothing can be asked of it any more")
            connection.execute(insert(REQUESTS).values(run_id=row.run_id, time=self._clock(), kind=kind, text=text))

    def requests(self, run_id: str, after: int = 0) -> list[Request]:
        """Return what was asked of a run, those after number `after`, in order."""
        with self._read() as connection:
            return [Request(*row) for row in connection.execute(_REQUESTS, {"of_run": run_id, "after": after})]

    def describe_task(self, run_id: str, signature: str) -> None:
        """Keep what the run's task computes, as the coder describes it."""
        with self._write_run(run_id) as connection:
            task_id = select(RUNS.c.task_id).where(RUNS.c.run_id == run_id).scalar_subquery()
            connection.execute(update(TASKS).where(TASKS.c.task_id == task_id).values(signature=signature))

    def _write_run(self, run_id: str, is_precious: bool = True) -> AbstractContextManager[Connection]:
        return self._leases.writing(run_id, is_precious)


def replayed(store: RunStore, run_id: str, needs: Needs) -> list[Place]:
    """Return the places of a run as they follow from its sessions and nodes alone, in logical order."""
    with store._read() as connection:
        settling = growth.settle_all(connection, run_id, needs)
    return sorted(settling.places.values(), key=lambda place: place.position)


def _insert_once(connection: Connection, table: Table) -> postgresql.Insert | sqlite.Insert:
    """Return an insert that leaves a row that is there already alone."""
    made = postgresql.insert(table) if connection.dialect.name == "postgresql" else sqlite.insert(table)
    return made.on_conflict_do_nothing()
