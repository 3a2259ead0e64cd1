"""Tables of the run store. Works on SQLite and PostgreSQL; `nodes`, `edges`, `evaluations`, `changes`, `events` and `ledger` are insert-only.

The tables change only by a migration in `agents/runs/migrations/versions/`; a test compares what the migrations make with what stands here.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, Boolean, Float, ForeignKey, Index, Integer, String, Text, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

SCHEMA_VERSION = 2
"""Number of the newest migration; its revision is this number in four digits."""


class Row(DeclarativeBase):
    """Root of the tables."""

    type_annotation_map = {dict[str, Any]: JSON, list[str]: JSON, list[Any]: JSON}  # noqa: RUF012 - SQLAlchemy reads it from the class


class Meta(Row):
    """One row a key; `schema_version` says which code may write this store."""

    __tablename__ = "meta"
    key: Mapped[str] = mapped_column(String(64), primary_key=True)
    value: Mapped[str] = mapped_column(Text)


class TaskRow(Row):
    """What is searched for: a problem on a target by a metric. Runs of the same task share its row."""

    __tablename__ = "tasks"
    task_id: Mapped[str] = mapped_column(String(16), primary_key=True)
    problem_id: Mapped[str] = mapped_column(String(255))
    problem_hash: Mapped[str] = mapped_column(String(64), index=True)
    target: Mapped[str] = mapped_column(String(64))
    metric: Mapped[str] = mapped_column(String(64))
    signature: Mapped[str] = mapped_column(Text)


class RunRow(Row):
    """One search from seed to report, with what it has spent and the lease of the process that drives it."""

    __tablename__ = "runs"
    run_id: Mapped[str] = mapped_column(String(32), primary_key=True)
    created: Mapped[float] = mapped_column(Float, index=True)
    status: Mapped[str] = mapped_column(String(16))
    target: Mapped[str] = mapped_column(String(64))
    strategy: Mapped[str] = mapped_column(String(32))
    coder: Mapped[str] = mapped_column(String(32))
    seed: Mapped[int] = mapped_column(Integer)
    problem: Mapped[dict[str, Any]]
    problem_hash: Mapped[str] = mapped_column(String(64), index=True)
    config: Mapped[dict[str, Any]]
    versions: Mapped[dict[str, Any]]
    result: Mapped[dict[str, Any] | None]
    seconds: Mapped[float] = mapped_column(Float, default=0.0)
    lease_owner: Mapped[str | None] = mapped_column(String(32))
    lease_host: Mapped[str | None] = mapped_column(String(128))
    lease_pid: Mapped[int | None] = mapped_column(Integer)
    lease_started: Mapped[str | None] = mapped_column(String(64))
    lease_beat: Mapped[float | None] = mapped_column(Float)
    task_id: Mapped[str] = mapped_column(String(16), index=True, server_default="")
    evaluations: Mapped[int] = mapped_column(Integer, server_default="0")
    remeasurements: Mapped[int] = mapped_column(Integer, server_default="0")
    device_seconds: Mapped[float] = mapped_column(Float, server_default="0")
    tokens: Mapped[int] = mapped_column(Integer, server_default="0")
    dollars: Mapped[float] = mapped_column(Float, server_default="0")


class SessionRow(Row):
    """One session: what was expanded, and how it ended."""

    __tablename__ = "sessions"
    run_id: Mapped[str] = mapped_column(ForeignKey("runs.run_id"), primary_key=True)
    session_id: Mapped[str] = mapped_column(String(32), primary_key=True)
    round: Mapped[int] = mapped_column(Integer)
    sibling: Mapped[int] = mapped_column(Integer)
    parents: Mapped[list[str]]
    memory: Mapped[str] = mapped_column(String(16))
    algorithm: Mapped[dict[str, Any]]
    outcome: Mapped[str] = mapped_column(String(16))
    parents_key: Mapped[str] = mapped_column(String(64), server_default="")
    __table_args__ = (Index("ix_sessions_parents", "run_id", "parents_key", "round", "sibling"),)


class AttemptRow(Row):
    """One draft of a session; its evaluation is filled in once."""

    __tablename__ = "attempts"
    run_id: Mapped[str] = mapped_column(ForeignKey("runs.run_id"), primary_key=True)
    session_id: Mapped[str] = mapped_column(String(32), primary_key=True)
    attempt: Mapped[int] = mapped_column(Integer, primary_key=True)
    artifact: Mapped[str | None] = mapped_column(String(64))
    source_hash: Mapped[str | None] = mapped_column(String(16))
    candidate: Mapped[dict[str, Any]]
    draft: Mapped[dict[str, Any]]
    diagnosis: Mapped[dict[str, Any]]
    evaluation: Mapped[dict[str, Any] | None]
    duplicate_of: Mapped[str | None] = mapped_column(String(32))


class PromptRow(Row):
    """One message that was sent to or came from a model while an attempt was written; its text is an artifact."""

    __tablename__ = "prompts"
    run_id: Mapped[str] = mapped_column(ForeignKey("runs.run_id"), primary_key=True)
    session_id: Mapped[str] = mapped_column(String(32), primary_key=True)
    attempt: Mapped[int] = mapped_column(Integer, primary_key=True)
    position: Mapped[int] = mapped_column(Integer, primary_key=True)
    role: Mapped[str] = mapped_column(String(32))
    artifact: Mapped[str] = mapped_column(String(64))


class EvaluationRow(Row):
    """One call of the evaluator that came back, keyed by what was evaluated; it is never made twice in a run."""

    __tablename__ = "evaluations"
    run_id: Mapped[str] = mapped_column(ForeignKey("runs.run_id"), primary_key=True)
    source_hash: Mapped[str] = mapped_column(String(16), primary_key=True)
    purpose: Mapped[str] = mapped_column(String(16), primary_key=True)
    candidate_id: Mapped[str] = mapped_column(String(16))
    target: Mapped[str] = mapped_column(String(64))
    status: Mapped[str] = mapped_column(String(16))
    seconds: Mapped[float] = mapped_column(Float)
    evaluation: Mapped[dict[str, Any]]
    __table_args__ = (Index("ix_evaluations_hangs", "target", "status", "source_hash"),)


class NodeRow(Row):
    """A candidate's place in the search graph. Never changed after the insert."""

    __tablename__ = "nodes"
    run_id: Mapped[str] = mapped_column(ForeignKey("runs.run_id"), primary_key=True)
    node_id: Mapped[str] = mapped_column(String(32), primary_key=True)
    step: Mapped[int] = mapped_column(Integer)
    round: Mapped[int] = mapped_column(Integer)
    session_id: Mapped[str] = mapped_column(String(32))
    attempt: Mapped[int] = mapped_column(Integer)
    parents: Mapped[list[str]]
    candidate_id: Mapped[str] = mapped_column(String(16))
    source_hash: Mapped[str] = mapped_column(String(16))
    artifact: Mapped[str] = mapped_column(String(64))
    candidate: Mapped[dict[str, Any]]
    status: Mapped[str] = mapped_column(String(16))
    fitness: Mapped[float] = mapped_column(Float)
    evidence: Mapped[str] = mapped_column(String(16))
    evaluation: Mapped[dict[str, Any]]
    notes: Mapped[str] = mapped_column(Text)
    chunk_ids: Mapped[list[str]]
    diagnosis: Mapped[dict[str, Any]]
    algorithm: Mapped[dict[str, Any]]
    features: Mapped[dict[str, Any]]
    error_signature: Mapped[str] = mapped_column(String(16), server_default="")
    __table_args__ = (
        UniqueConstraint("run_id", "step", name="uq_nodes_step"),
        Index("ix_nodes_best", "run_id", "fitness"),
        Index("ix_nodes_source", "run_id", "source_hash"),
        Index("ix_nodes_session", "run_id", "session_id"),
        Index("ix_nodes_error", "error_signature", "run_id"),
    )


class EdgeRow(Row):
    """A parent of a node; a crossover has two."""

    __tablename__ = "edges"
    run_id: Mapped[str] = mapped_column(ForeignKey("runs.run_id"), primary_key=True)
    child_id: Mapped[str] = mapped_column(String(32), primary_key=True)
    parent_id: Mapped[str] = mapped_column(String(32), primary_key=True)
    __table_args__ = (Index("ix_edges_parent", "run_id", "parent_id"),)


class PlaceRow(Row):
    """The mutable statistics of a place: a node that stands for its session, the root, an island or a pair of parents. Every change is logged."""

    __tablename__ = "places"
    run_id: Mapped[str] = mapped_column(ForeignKey("runs.run_id"), primary_key=True)
    place_id: Mapped[str] = mapped_column(String(32), primary_key=True)
    kind: Mapped[str] = mapped_column(String(8))
    position: Mapped[int] = mapped_column(Integer)
    parent_id: Mapped[str | None] = mapped_column(String(32))
    parents: Mapped[list[str]]
    fitness: Mapped[float] = mapped_column(Float)
    cell: Mapped[str] = mapped_column(String(128))
    island: Mapped[int] = mapped_column(Integer)
    generation: Mapped[int] = mapped_column(Integer)
    is_open: Mapped[bool] = mapped_column(Boolean)
    children: Mapped[int] = mapped_column(Integer)
    alive_children: Mapped[int] = mapped_column(Integer)
    visits: Mapped[int] = mapped_column(Integer)
    total: Mapped[float] = mapped_column(Float)
    best: Mapped[float] = mapped_column(Float)
    best_at: Mapped[int] = mapped_column(Integer)
    exhaustion: Mapped[int] = mapped_column(Integer)
    ucb: Mapped[float | None] = mapped_column(Float)


Index("ix_places_order", PlaceRow.run_id, PlaceRow.kind, PlaceRow.position)
Index("ix_places_children", PlaceRow.run_id, PlaceRow.parent_id, PlaceRow.position)
Index("ix_places_frontier", PlaceRow.run_id, PlaceRow.kind, PlaceRow.is_open, PlaceRow.fitness.desc(), PlaceRow.children, PlaceRow.position)
Index(
    "ix_places_island",
    PlaceRow.run_id,
    PlaceRow.kind,
    PlaceRow.island,
    PlaceRow.is_open,
    PlaceRow.fitness.desc(),
    PlaceRow.children,
    PlaceRow.position,
)
Index("ix_places_cells", PlaceRow.run_id, PlaceRow.kind, PlaceRow.island, PlaceRow.cell, PlaceRow.fitness.desc(), PlaceRow.position)


class ChangeRow(Row):
    """One change of one field of a place, at a logical step; in the order of `change_id` they rebuild the state as of any step."""

    __tablename__ = "changes"
    change_id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    run_id: Mapped[str] = mapped_column(ForeignKey("runs.run_id"))
    step: Mapped[int] = mapped_column(Integer)
    place_id: Mapped[str] = mapped_column(String(32))
    field: Mapped[str] = mapped_column(String(16))
    value: Mapped[float | None] = mapped_column(Float)
    __table_args__ = (Index("ix_changes_step", "run_id", "step", "change_id"),)


class RequestRow(Row):
    """What a person asked of a run while it goes on: a note, a pause, a cancellation, an approval. Anybody may insert; the driver reads."""

    __tablename__ = "requests"
    request_id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    run_id: Mapped[str] = mapped_column(ForeignKey("runs.run_id"), index=True)
    time: Mapped[float] = mapped_column(Float)
    kind: Mapped[str] = mapped_column(String(16))
    text: Mapped[str] = mapped_column(Text)


class EventRow(Row):
    """Something worth telling, in the order in which it happened."""

    __tablename__ = "events"
    event_id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    run_id: Mapped[str] = mapped_column(ForeignKey("runs.run_id"), index=True)
    time: Mapped[float] = mapped_column(Float)
    kind: Mapped[str] = mapped_column(String(32))
    data: Mapped[dict[str, Any]]


class LedgerRow(Row):
    """What was spent, each entry under a key that makes counting it twice impossible."""

    __tablename__ = "ledger"
    run_id: Mapped[str] = mapped_column(ForeignKey("runs.run_id"), primary_key=True)
    key: Mapped[str] = mapped_column(String(96), primary_key=True)
    kind: Mapped[str] = mapped_column(String(16))
    amount: Mapped[float] = mapped_column(Float)
