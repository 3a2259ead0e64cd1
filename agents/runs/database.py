"""The database of a run store: its address, its connections, and how transactions begin and end on SQLite and PostgreSQL."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import create_engine, event
from sqlalchemy.engine import Engine, make_url
from sqlalchemy.exc import ArgumentError, DatabaseError
from sqlalchemy.orm import Session

from agents.errors import RunStoreError
from agents.runs.schema import upgrade


class Database:
    """Connections to one database, brought to the schema of this code.

    Args:
        url: As `database_url` returns it.

    Raises:
        RunStoreError: It is of a newer schema (it is left untouched), is no run store, or cannot be reached or written.
    """

    def __init__(self, url: str) -> None:
        self.engine = _engine(url)
        self.is_sqlite = self.engine.dialect.name == "sqlite"
        self._writer: Engine = self.engine.execution_options(immediate=True)
        try:
            upgrade(self._writer)
        except DatabaseError as error:
            raise RunStoreError(f"cannot open the run store {self.engine.url!r}: {error.orig}") from error

    def close(self) -> None:
        """Close the connections."""
        self.engine.dispose()

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """Open a session that only reads."""
        try:
            with Session(self.engine) as session:
                yield session
        except DatabaseError as error:
            raise RunStoreError(f"cannot read the run store {self.engine.url}: {error.orig}") from error

    @contextmanager
    def writing(self, is_precious: bool = True) -> Iterator[Session]:
        """Commit a transaction; a precious one survives a power failure too, any other the end of this process."""
        try:
            with Session(self._writer) as session:
                if self.is_sqlite:
                    session.connection(execution_options={"precious": is_precious})
                yield session
                session.commit()
        except DatabaseError as error:
            raise RunStoreError(
                f"cannot write the run store {self.engine.url}: {error.orig}; check free space and permissions, or choose another --home"
            ) from error


def database_url(url: str) -> str:
    """Return the address with the driver that we use: psycopg 3 for PostgreSQL.

    Raises:
        RunStoreError: It is no address of a database, or not of SQLite or PostgreSQL.
    """
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise RunStoreError(f"{url!r} is not the address of a database; give for example postgresql://user@host/name") from error
    if parsed.drivername in ("postgresql", "postgres"):
        parsed = parsed.set(drivername="postgresql+psycopg")
    if parsed.get_backend_name() not in ("sqlite", "postgresql"):
        raise RunStoreError(f"the run store works with sqlite and postgresql, not with {parsed.get_backend_name()!r}")
    return parsed.render_as_string(hide_password=False)


def _engine(url: str) -> Engine:
    try:
        engine = create_engine(url)
    except ImportError as error:
        raise RunStoreError("a run store in PostgreSQL needs its driver: pip install 'kernelevolve[postgres]'") from error
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _configure_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    return engine


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
