"""What alembic runs for every command: the migrations, on the connection that the caller put into `attributes`."""

from __future__ import annotations

from alembic import context

from agents.runs.tables import METADATA

context.configure(connection=context.config.attributes["connection"], target_metadata=METADATA)
with context.begin_transaction():
    context.run_migrations()
