"""Tasks, edges, places with their change log, prompts, requests; running totals of what a run spent.

Places of runs that are still open are rebuilt from their sessions and nodes when such a run is taken up again."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply the revision."""
    op.create_table(
        "tasks",
        sa.Column("task_id", sa.String(length=16), nullable=False),
        sa.Column("problem_id", sa.String(length=255), nullable=False),
        sa.Column("problem_hash", sa.String(length=64), nullable=False),
        sa.Column("target", sa.String(length=64), nullable=False),
        sa.Column("metric", sa.String(length=64), nullable=False),
        sa.Column("signature", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("task_id"),
    )
    op.create_index("ix_tasks_problem_hash", "tasks", ["problem_hash"], unique=False)
    op.create_table(
        "changes",
        sa.Column("change_id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("run_id", sa.String(length=32), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("place_id", sa.String(length=32), nullable=False),
        sa.Column("field", sa.String(length=16), nullable=False),
        sa.Column("value", sa.Float(), nullable=True),
        sa.ForeignKeyConstraint(
            ["run_id"],
            ["runs.run_id"],
        ),
        sa.PrimaryKeyConstraint("change_id"),
    )
    op.create_index("ix_changes_step", "changes", ["run_id", "step", "change_id"], unique=False)
    op.create_table(
        "edges",
        sa.Column("run_id", sa.String(length=32), nullable=False),
        sa.Column("child_id", sa.String(length=32), nullable=False),
        sa.Column("parent_id", sa.String(length=32), nullable=False),
        sa.ForeignKeyConstraint(
            ["run_id"],
            ["runs.run_id"],
        ),
        sa.PrimaryKeyConstraint("run_id", "child_id", "parent_id"),
    )
    op.create_index("ix_edges_parent", "edges", ["run_id", "parent_id"], unique=False)
    op.create_table(
        "places",
        sa.Column("run_id", sa.String(length=32), nullable=False),
        sa.Column("place_id", sa.String(length=32), nullable=False),
        sa.Column("kind", sa.String(length=8), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("parent_id", sa.String(length=32), nullable=True),
        sa.Column("parents", sa.JSON(), nullable=False),
        sa.Column("fitness", sa.Float(), nullable=False),
        sa.Column("cell", sa.String(length=128), nullable=False),
        sa.Column("island", sa.Integer(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("is_open", sa.Boolean(), nullable=False),
        sa.Column("children", sa.Integer(), nullable=False),
        sa.Column("alive_children", sa.Integer(), nullable=False),
        sa.Column("visits", sa.Integer(), nullable=False),
        sa.Column("total", sa.Float(), nullable=False),
        sa.Column("best", sa.Float(), nullable=False),
        sa.Column("best_at", sa.Integer(), nullable=False),
        sa.Column("exhaustion", sa.Integer(), nullable=False),
        sa.Column("ucb", sa.Float(), nullable=True),
        sa.ForeignKeyConstraint(
            ["run_id"],
            ["runs.run_id"],
        ),
        sa.PrimaryKeyConstraint("run_id", "place_id"),
    )
    op.create_index(
        "ix_places_cells", "places", ["run_id", "kind", "island", "cell", sa.literal_column("fitness DESC"), "position"], unique=False
    )
    op.create_index("ix_places_children", "places", ["run_id", "parent_id", "position"], unique=False)
    op.create_index(
        "ix_places_frontier",
        "places",
        ["run_id", "kind", "is_open", sa.literal_column("fitness DESC"), "children", "position"],
        unique=False,
    )
    op.create_index(
        "ix_places_island",
        "places",
        ["run_id", "kind", "island", "is_open", sa.literal_column("fitness DESC"), "children", "position"],
        unique=False,
    )
    op.create_index("ix_places_order", "places", ["run_id", "kind", "position"], unique=False)
    op.create_table(
        "prompts",
        sa.Column("run_id", sa.String(length=32), nullable=False),
        sa.Column("session_id", sa.String(length=32), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("role", sa.String(length=32), nullable=False),
        sa.Column("artifact", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(
            ["run_id"],
            ["runs.run_id"],
        ),
        sa.PrimaryKeyConstraint("run_id", "session_id", "attempt", "position"),
    )
    op.create_table(
        "requests",
        sa.Column("request_id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("run_id", sa.String(length=32), nullable=False),
        sa.Column("time", sa.Float(), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["run_id"],
            ["runs.run_id"],
        ),
        sa.PrimaryKeyConstraint("request_id"),
    )
    op.create_index("ix_requests_run_id", "requests", ["run_id"], unique=False)
    op.add_column("nodes", sa.Column("error_signature", sa.String(length=16), server_default="", nullable=False))
    op.create_index("ix_nodes_error", "nodes", ["error_signature", "run_id"], unique=False)
    op.create_index("ix_nodes_session", "nodes", ["run_id", "session_id"], unique=False)
    op.add_column("runs", sa.Column("task_id", sa.String(length=16), server_default="", nullable=False))
    op.add_column("runs", sa.Column("evaluations", sa.Integer(), server_default="0", nullable=False))
    op.add_column("runs", sa.Column("remeasurements", sa.Integer(), server_default="0", nullable=False))
    op.add_column("runs", sa.Column("device_seconds", sa.Float(), server_default="0", nullable=False))
    op.add_column("runs", sa.Column("tokens", sa.Integer(), server_default="0", nullable=False))
    op.add_column("runs", sa.Column("dollars", sa.Float(), server_default="0", nullable=False))
    op.create_index("ix_runs_task_id", "runs", ["task_id"], unique=False)
    op.add_column("sessions", sa.Column("parents_key", sa.String(length=64), server_default="", nullable=False))
    op.create_index("ix_sessions_parents", "sessions", ["run_id", "parents_key", "round", "sibling"], unique=False)
    _fill(op.get_bind())


def _fill(connection: sa.Connection) -> None:
    """Derive what is new from what is there."""
    meta = sa.MetaData()
    names = ("runs", "sessions", "nodes", "edges", "tasks", "evaluations", "ledger")
    runs, sessions, nodes, edges, tasks, evaluations, ledger = (sa.Table(name, meta, autoload_with=connection) for name in names)
    known: set[str] = set()
    for run in connection.execute(sa.select(runs.c.run_id, runs.c.problem, runs.c.problem_hash, runs.c.target)).all():
        task_id = hashlib.sha256(json.dumps([run.problem_hash, run.target, "speedup"], sort_keys=True).encode()).hexdigest()[:16]
        if task_id not in known:
            known.add(task_id)
            connection.execute(
                tasks.insert().values(
                    task_id=task_id,
                    problem_id=_parsed(run.problem)["problem_id"],
                    problem_hash=run.problem_hash,
                    target=run.target,
                    metric="speedup",
                    signature="",
                )
            )
        mine = evaluations.c.run_id == run.run_id
        counts = dict(
            connection.execute(sa.select(evaluations.c.purpose, sa.func.count()).where(mine).group_by(evaluations.c.purpose)).tuples().all()
        )
        device = connection.scalar(sa.select(sa.func.sum(evaluations.c.seconds)).where(mine))
        spent = dict(
            connection.execute(
                sa.select(ledger.c.kind, sa.func.sum(ledger.c.amount)).where(ledger.c.run_id == run.run_id).group_by(ledger.c.kind)
            )
            .tuples()
            .all()
        )
        connection.execute(
            runs.update()
            .where(runs.c.run_id == run.run_id)
            .values(
                task_id=task_id,
                evaluations=sum(counts.values()),
                remeasurements=counts.get("final", 0),
                device_seconds=device or 0.0,
                tokens=int(spent.get("tokens", 0)),
                dollars=spent.get("dollars", 0.0),
            )
        )
    for session in connection.execute(sa.select(sessions.c.run_id, sessions.c.session_id, sessions.c.parents)).all():
        connection.execute(
            sessions.update()
            .where(sessions.c.run_id == session.run_id, sessions.c.session_id == session.session_id)
            .values(parents_key=",".join(_parsed(session.parents)))
        )
    for node in connection.execute(sa.select(nodes.c.run_id, nodes.c.node_id, nodes.c.parents)).all():
        for parent in dict.fromkeys(_parsed(node.parents)):
            connection.execute(edges.insert().values(run_id=node.run_id, child_id=node.node_id, parent_id=parent))


def _parsed(value: Any) -> Any:  # Any: JSON
    """Return JSON that a driver may have handed out as text."""
    return json.loads(value) if isinstance(value, str) else value
