"""Bring a database to the schema of this code: a newer one is refused untouched, an older one is upgraded, an empty one is filled, each in one transaction."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from sqlalchemy import Connection, inspect, text
from sqlalchemy.engine import Engine

from agents.errors import RunStoreError
from agents.runs.tables import SCHEMA_VERSION

HEAD = f"{SCHEMA_VERSION:04d}"
"""Revision of the newest migration."""
_MIGRATION_LOCK = 0x6B65766F
"""Key of PostgreSQL's advisory lock under which one process at a time upgrades."""


def upgrade(engine: Engine) -> None:
    """Bring the database to `HEAD`; does nothing, and loads nothing, where it is there already.

    Args:
        engine: Opens transactions that exclude other writers (SQLite: `BEGIN IMMEDIATE`).

    Raises:
        RunStoreError: The database is of a newer schema, or is no run store.
    """
    with engine.connect() as connection, connection.begin():
        if _revision(connection, engine) == HEAD:
            return
        if engine.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
            if _revision(connection, engine) == HEAD:
                return
        _migrate(connection, engine)


def refuse_newer_file(path: Path) -> None:
    """Look at an existing SQLite file read-only, so that a newer one is not touched.

    Raises:
        RunStoreError: It is of a newer schema, is no run store, or cannot be opened.
    """
    if not path.exists() or path.stat().st_size == 0:
        return
    try:
        connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=30.0)
        try:
            names = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            version = connection.execute("SELECT value FROM meta WHERE key = 'schema_version'").fetchone() if "meta" in names else None
            revision = connection.execute("SELECT version_num FROM alembic_version").fetchone() if "alembic_version" in names else None
        finally:
            connection.close()
    except sqlite3.OperationalError as error:
        raise RunStoreError(
            f"cannot open {path} ({error}): its directory must be writable; check the permissions or choose another --home"
        ) from error
    except sqlite3.DatabaseError as error:
        raise RunStoreError(f"{path} is not a run store ({error}); move it away or choose another --home") from error
    if names and "meta" not in names:
        raise RunStoreError(f"{path} is not a run store (it has other tables: {_some(names)}); move it away or choose another --home")
    if version is not None and int(version[0]) > SCHEMA_VERSION:
        raise RunStoreError(_newer(str(path), version[0]))
    if revision is not None and revision[0] > HEAD:
        raise RunStoreError(_newer(str(path), revision[0]))


def _some(names: set[str]) -> str:
    return ", ".join(sorted(names)[:5])


def _revision(connection: Connection, engine: Engine) -> str:
    """Return the revision that the database is at; empty: it has no tables yet.

    The first release wrote no revision of alembic, only `meta.schema_version`.
    """
    names = set(inspect(connection).get_table_names())
    if not names:
        return ""
    if "meta" not in names:
        raise RunStoreError(f"{engine.url} is not a run store (it has other tables: {_some(names)}); choose another database")
    version = connection.scalar(text("SELECT value FROM meta WHERE key = 'schema_version'"))
    if version is not None and int(version) > SCHEMA_VERSION:
        raise RunStoreError(_newer(str(engine.url), version))
    if "alembic_version" not in names:
        return "0001" if version is not None else ""
    revision = str(connection.scalar(text("SELECT version_num FROM alembic_version")) or "")
    if revision > HEAD:
        raise RunStoreError(_newer(str(engine.url), revision))
    return revision


def _migrate(connection: Connection, engine: Engine) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", "agents.runs:migrations")
    config.attributes["connection"] = connection
    if _revision(connection, engine) == "0001" and "alembic_version" not in inspect(connection).get_table_names():
        command.stamp(config, "0001")
    command.upgrade(config, "head")
    connection.execute(text("DELETE FROM meta WHERE key = 'schema_version'"))
    connection.execute(text("INSERT INTO meta (key, value) VALUES ('schema_version', :version)"), {"version": str(SCHEMA_VERSION)})


def _newer(place: str, version: str) -> str:
    return (
        f"{place} was written by a newer version (schema {version}, this one knows {SCHEMA_VERSION}); it was left untouched. "
        "Upgrade the package or choose another --home"
    )
