"""The nodes of a source, and those of a kind of failure, are found in their order by the index alone; events of one kind without those of others."""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply the revision."""
    op.drop_index("ix_nodes_source", "nodes")
    op.create_index("ix_nodes_source", "nodes", ["run_id", "source_hash", "step"], unique=False)
    op.drop_index("ix_nodes_error", "nodes")
    op.create_index("ix_nodes_error", "nodes", ["error_signature", "run_id", "step"], unique=False)
    op.create_index("ix_events_kind", "events", ["run_id", "kind", "event_id"], unique=False)
