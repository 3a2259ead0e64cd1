"""The database of a run store: its address, its connections, and how transactions begin and end on SQLite and PostgreSQL."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, create_engine, event, text
from sqlalchemy.engine import Engine, make_url
from sqlalchemy.exc import ArgumentError, DatabaseError, OperationalError

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
        self._precious: Engine = self.engine.execution_options(writes="FULL")
        self._writer: Engine = self.engine.execution_options(writes="NORMAL")
        # Statements of PostgreSQL see what is committed when each begins, so that a transaction around reads would only cost two trips to the server.
        self._reader = self.engine if self.is_sqlite else self.engine.execution_options(isolation_level="AUTOCOMMIT")
        try:
            upgrade(self._precious)
        except DatabaseError as error:
            hint = "; check that its directory is writable and has space, or choose another --home" if self.is_sqlite else ""
            raise RunStoreError(f"cannot open the run store {self.engine.url!r}: {error.orig}{hint}") from error

    def close(self) -> None:
        """Close the connections."""
        self.engine.dispose()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Open a connection that only reads; on SQLite it sees one state of the database from first to last."""
        try:
            with self._reader.connect() as connection:
                yield connection
        except DatabaseError as error:
            raise RunStoreError(f"cannot read the run store {self.engine.url}: {error.orig}") from error

    @contextmanager
    def writing(self, is_precious: bool = True) -> Iterator[Connection]:
        """Commit a transaction; a precious one survives a power failure too, any other the end of this process."""
        try:
            with (self._precious if is_precious else self._writer).begin() as connection:
                if not is_precious and not self.is_sqlite:
                    connection.execute(_NEED_NOT_SYNC)
                yield connection
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


_NEED_NOT_SYNC = text("SET LOCAL synchronous_commit TO off")
"""PostgreSQL, for one transaction: its commit does not wait for the disk; the next one that does takes it along."""


def _configure_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None  # the `begin` listener decides how a transaction starts
    connection.execute("PRAGMA busy_timeout=30000")
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA foreign_keys=ON")


def _begin_sqlite(connection: Connection) -> None:
    # Straight to the driver: this runs several times a node, and SQLAlchemy's way costs as much as a query.
    driver: Any = connection.connection.driver_connection  # Any: SQLAlchemy does not say which driver's
    writes = connection.get_execution_options().get("writes")
    if writes is None:
        driver.execute("BEGIN")
        return
    # In WAL mode FULL syncs the log, and with it every earlier commit, at this commit; NORMAL leaves that to a later one.
    driver.execute(f"PRAGMA synchronous={writes}")
    try:
        driver.execute("BEGIN IMMEDIATE")
    except sqlite3.Error as error:
        raise OperationalError("BEGIN IMMEDIATE", None, error) from error
