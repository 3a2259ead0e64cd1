"""What alembic runs for every command: the migrations, on the connection that the caller put into `attributes`."""

from __future__ import annotations

from alembic import context

from agents.runs.models import Row

context.configure(connection=context.config.attributes["connection"], target_metadata=Row.metadata)
with context.begin_transaction():
    context.run_migrations()
