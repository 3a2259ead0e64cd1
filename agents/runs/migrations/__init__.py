"""The schema of the run store through time: alembic revisions under `versions/`, oldest `0001`, and the environment that runs them."""
