"""Tables of the run store. Works on SQLite and PostgreSQL; `nodes`, `edges`, `evaluations`, `changes`, `events` and `ledger` are insert-only.

The tables change only by a migration in `agents/runs/migrations/versions/`; a test compares what the migrations make with what stands here.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, Boolean, Column, Float, ForeignKey, Index, Integer, MetaData, String, Table, Text, UniqueConstraint

SCHEMA_VERSION = 3
"""Number of the newest migration; its revision is this number in four digits."""
METADATA = MetaData()


def _column(name: str, kind: Any, *rest: Any, **options: Any) -> Column[Any]:  # Any: what SQLAlchemy's own `Column` takes
    """Return a column that may not be empty, unless it is said to be `nullable`."""
    return Column(name, kind, *rest, **{"nullable": False, **options})


def _of_run(**options: Any) -> Column[Any]:  # Any: as above
    return _column("run_id", String(32), ForeignKey("runs.run_id"), **options)


META = Table("meta", METADATA, _column("key", String(64), primary_key=True), _column("value", Text))
"""One row a key; `schema_version` says which code may write this store."""

TASKS = Table(
    "tasks",
    METADATA,
    _column("task_id", String(16), primary_key=True),
    _column("problem_id", String(255)),
    _column("problem_hash", String(64), index=True),
    _column("target", String(64)),
    _column("metric", String(64)),
    _column("signature", Text),
)
"""What is searched for: a problem on a target by a metric. Runs of the same task share its row."""

RUNS = Table(
    "runs",
    METADATA,
    _column("run_id", String(32), primary_key=True),
    _column("created", Float, index=True),
    _column("status", String(16)),
    _column("target", String(64)),
    _column("strategy", String(32)),
    _column("coder", String(32)),
    _column("seed", Integer),
    _column("problem", JSON),
    _column("problem_hash", String(64), index=True),
    _column("config", JSON),
    _column("versions", JSON),
    _column("result", JSON, nullable=True),
    _column("seconds", Float),
    _column("lease_owner", String(32), nullable=True),
    _column("lease_host", String(128), nullable=True),
    _column("lease_pid", Integer, nullable=True),
    _column("lease_started", String(64), nullable=True),
    _column("lease_beat", Float, nullable=True),
    _column("task_id", String(16), index=True, server_default=""),
    _column("evaluations", Integer, server_default="0"),
    _column("remeasurements", Integer, server_default="0"),
    _column("device_seconds", Float, server_default="0"),
    _column("tokens", Integer, server_default="0"),
    _column("dollars", Float, server_default="0"),
)
"""One search from seed to report, with what it has spent and the lease of the process that drives it."""

SESSIONS = Table(
    "sessions",
    METADATA,
    _of_run(primary_key=True),
    _column("session_id", String(32), primary_key=True),
    _column("round", Integer),
    _column("sibling", Integer),
    _column("parents", JSON),
    _column("memory", String(16)),
    _column("algorithm", JSON),
    _column("outcome", String(16)),
    _column("parents_key", String(64), server_default=""),
    Index("ix_sessions_parents", "run_id", "parents_key", "round", "sibling"),
)
"""One session: what was expanded, and how it ended."""

ATTEMPTS = Table(
    "attempts",
    METADATA,
    _of_run(primary_key=True),
    _column("session_id", String(32), primary_key=True),
    _column("attempt", Integer, primary_key=True),
    _column("artifact", String(64), nullable=True),
    _column("source_hash", String(16), nullable=True),
    _column("candidate", JSON),
    _column("draft", JSON),
    _column("diagnosis", JSON),
    _column("evaluation", JSON, nullable=True),
    _column("duplicate_of", String(32), nullable=True),
)
"""One draft of a session; its evaluation is filled in once."""

PROMPTS = Table(
    "prompts",
    METADATA,
    _of_run(primary_key=True),
    _column("session_id", String(32), primary_key=True),
    _column("attempt", Integer, primary_key=True),
    _column("position", Integer, primary_key=True),
    _column("role", String(32)),
    _column("artifact", String(64)),
)
"""One message that was sent to or came from a model while an attempt was written; its text is an artifact."""

EVALUATIONS = Table(
    "evaluations",
    METADATA,
    _of_run(primary_key=True),
    _column("source_hash", String(16), primary_key=True),
    _column("purpose", String(16), primary_key=True),
    _column("candidate_id", String(16)),
    _column("target", String(64)),
    _column("status", String(16)),
    _column("seconds", Float),
    _column("evaluation", JSON),
    Index("ix_evaluations_hangs", "target", "status", "source_hash"),
)
"""One call of the evaluator that came back, keyed by what was evaluated; it is never made twice in a run."""

NODES = Table(
    "nodes",
    METADATA,
    _of_run(primary_key=True),
    _column("node_id", String(32), primary_key=True),
    _column("step", Integer),
    _column("round", Integer),
    _column("session_id", String(32)),
    _column("attempt", Integer),
    _column("parents", JSON),
    _column("candidate_id", String(16)),
    _column("source_hash", String(16)),
    _column("artifact", String(64)),
    _column("candidate", JSON),
    _column("status", String(16)),
    _column("fitness", Float),
    _column("evidence", String(16)),
    _column("evaluation", JSON),
    _column("notes", Text),
    _column("chunk_ids", JSON),
    _column("diagnosis", JSON),
    _column("algorithm", JSON),
    _column("features", JSON),
    _column("error_signature", String(16), server_default=""),
    UniqueConstraint("run_id", "step", name="uq_nodes_step"),
    Index("ix_nodes_best", "run_id", "fitness"),
    # With the step: SQLite would rather walk through all nodes in order than sort the few that are asked for.
    Index("ix_nodes_source", "run_id", "source_hash", "step"),
    Index("ix_nodes_session", "run_id", "session_id"),
    Index("ix_nodes_error", "error_signature", "run_id", "step"),
)
"""A candidate's place in the search graph. Never changed after the insert."""

EDGES = Table(
    "edges",
    METADATA,
    _of_run(primary_key=True),
    _column("child_id", String(32), primary_key=True),
    _column("parent_id", String(32), primary_key=True),
    Index("ix_edges_parent", "run_id", "parent_id"),
)
"""A parent of a node; a crossover has two."""

PLACES = Table(
    "places",
    METADATA,
    _of_run(primary_key=True),
    _column("place_id", String(32), primary_key=True),
    _column("kind", String(8)),
    _column("position", Integer),
    _column("parent_id", String(32), nullable=True),
    _column("parents", JSON),
    _column("fitness", Float),
    _column("cell", String(128)),
    _column("island", Integer),
    _column("generation", Integer),
    _column("is_open", Boolean),
    _column("children", Integer),
    _column("alive_children", Integer),
    _column("visits", Integer),
    _column("total", Float),
    _column("best", Float),
    _column("best_at", Integer),
    _column("exhaustion", Integer),
    _column("ucb", Float, nullable=True),
)
"""The mutable statistics of a place: a node that stands for its session, the root, an island or a pair of parents. Every change is logged."""
_P = PLACES.c
Index("ix_places_order", _P.run_id, _P.kind, _P.position)
Index("ix_places_children", _P.run_id, _P.parent_id, _P.position)
Index("ix_places_frontier", _P.run_id, _P.kind, _P.is_open, _P.fitness.desc(), _P.children, _P.position)
Index("ix_places_island", _P.run_id, _P.kind, _P.island, _P.is_open, _P.fitness.desc(), _P.children, _P.position)
Index("ix_places_cells", _P.run_id, _P.kind, _P.island, _P.cell, _P.fitness.desc(), _P.position)

CHANGES = Table(
    "changes",
    METADATA,
    _column("change_id", Integer, primary_key=True, autoincrement=True),
    _of_run(),
    _column("step", Integer),
    _column("place_id", String(32)),
    _column("field", String(16)),
    _column("value", Float, nullable=True),
    Index("ix_changes_step", "run_id", "step", "change_id"),
)
"""One change of one field of a place, at a logical step; in the order of `change_id` they rebuild the state as of any step."""

REQUESTS = Table(
    "requests",
    METADATA,
    _column("request_id", Integer, primary_key=True, autoincrement=True),
    _of_run(index=True),
    _column("time", Float),
    _column("kind", String(16)),
    _column("text", Text),
)
"""What a person asked of a run while it goes on: a note, a pause, a cancellation, an approval. Anybody may insert; the driver reads."""

EVENTS = Table(
    "events",
    METADATA,
    _column("event_id", Integer, primary_key=True, autoincrement=True),
    _of_run(index=True),
    _column("time", Float),
    _column("kind", String(32)),
    _column("data", JSON),
    Index("ix_events_kind", "run_id", "kind", "event_id"),
)
"""Something worth telling, in the order in which it happened."""

LEDGER = Table(
    "ledger",
    METADATA,
    _of_run(primary_key=True),
    _column("key", String(96), primary_key=True),
    _column("kind", String(16)),
    _column("amount", Float),
)
"""What was spent, each entry under a key that makes counting it twice impossible."""
