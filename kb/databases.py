"""What differs between the databases that can hold a catalogue: SQLite under the home, PostgreSQL by address. Everything else is shared.

Both give the same promises: one writer at a time (so that chunk numbers ascend in the order of commits), readers that see one consistent state and are
never blocked, all of a transaction or nothing.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DatabaseError, NoSuchModuleError, OperationalError

from kb.errors import StoreError
from kb.home import without_password

BUSY_TIMEOUT_MS = 60_000
WRITER_KEY = 0x6B62_0001
"""Key of PostgreSQL's advisory lock that makes writers take turns."""


class Database(Protocol):
    """One kind of database."""

    name: str
    """Where it is, without a password."""

    def engine(self) -> Engine:
        """Return an engine whose transactions keep the promises; `kb_write` among the execution options asks for a writing one."""

    def require(self) -> None:
        """Raise `StoreError` if there is nothing to open, before anything is created."""

    def prepare(self) -> None:
        """Make the place where the database will be."""

    def damage(self, connection: Connection) -> str:
        """Return what the database's own check finds, or nothing."""

    def size_bytes(self, connection: Connection) -> int:
        """Return what it takes beyond the files of the home."""

    def translated(self, err: DatabaseError) -> StoreError:
        """Return our error for one of the database, with advice."""


class Sqlite:
    """A file in WAL mode.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = str(path)

    def engine(self) -> Engine:
        """Return an engine over the file; on a read-only disk it reads without the files that WAL mode would have to write."""
        engine = create_engine(f"sqlite:///{self._read_only() or self.path}")
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine

    def _read_only(self) -> str:
        """Return the address for a file that cannot be written, empty for one that can.

        `immutable` skips the write-ahead log, so it is left out where one was left behind: SQLite then needs the `-shm` file beside it.
        """
        if not self.path.exists() or (os.access(self.path, os.W_OK) and os.access(self.path.parent, os.W_OK)):
            return ""
        log = self.path.with_name(self.path.name + "-wal")
        options = "mode=ro" if log.exists() and log.stat().st_size else "mode=ro&immutable=1"
        return f"file:{quote(str(self.path))}?{options}&uri=true"

    def require(self) -> None:
        """See `Database`."""
        if not self.path.exists():
            raise StoreError(f"no knowledge base at {str(self.path.parent)!r}; run `kb ingest PATH` first, or choose another --home")

    def prepare(self) -> None:
        """See `Database`."""

    def damage(self, connection: Connection) -> str:
        """See `Database`."""
        state = str(connection.execute(text("PRAGMA quick_check")).scalar_one())
        return "" if state == "ok" else state

    def size_bytes(self, connection: Connection) -> int:
        """See `Database`: the file lies in the home."""
        return 0

    def translated(self, err: DatabaseError) -> StoreError:
        """See `Database`."""
        reason = str(err.orig) if err.orig is not None else str(err)
        advice = "run `kb check`"
        if "readonly" in reason or "read-only" in reason or "unable to open" in reason:
            advice = "check the permissions, or choose another --home"
        elif "full" in reason:
            advice = "free some space and run the command again; nothing was lost"
        elif "locked" in reason:
            advice = "another process is writing; try again"
        elif "not a database" in reason or "malformed" in reason:
            advice = "the file is damaged: restore it from a copy, or move it away and ingest again"
        elif isinstance(err, OperationalError):
            advice = "try again, and run `kb check`"
        return StoreError(f"cannot use {self.name!r}: {reason}; {advice}")


class Postgres:
    """A database of a PostgreSQL server; it holds one base.

    Args:
        address: `postgresql://user:password@host:port/database`.

    Raises:
        StoreError: The address cannot be read, or the driver is not installed.
    """

    def __init__(self, address: str) -> None:
        self.name = without_password(address)
        try:
            self._url = make_url(address).set(drivername="postgresql+psycopg")
            self._url.get_dialect().import_dbapi()
        except ArgumentError as err:
            raise StoreError(f"not the address of a database: {self.name!r}; write postgresql://USER@HOST/DATABASE") from err
        except (ImportError, NoSuchModuleError) as err:
            raise StoreError("a catalogue in PostgreSQL needs psycopg; run: pip install 'psycopg[binary]>=3.2'") from err

    def engine(self) -> Engine:
        """Return an engine; connections are checked before use, so that a restarted server is no error."""
        engine = create_engine(self._url, pool_pre_ping=True, pool_size=8, max_overflow=16)
        event.listen(engine, "begin", _begin_postgres)
        return engine

    def require(self) -> None:
        """See `Database`: whether the tables are there shows when they are read."""

    def prepare(self) -> None:
        """See `Database`: the database itself must exist."""

    def damage(self, connection: Connection) -> str:
        """See `Database`: PostgreSQL checks its pages itself."""
        return ""

    def size_bytes(self, connection: Connection) -> int:
        """See `Database`."""
        return int(connection.execute(text("SELECT pg_database_size(current_database())")).scalar_one())

    def translated(self, err: DatabaseError) -> StoreError:
        """See `Database`."""
        reason = (str(err.orig) if err.orig is not None else str(err)).strip().split("\n")[0]
        advice = "run `kb check`"
        if "lock timeout" in reason or "deadlock" in reason:
            advice = "another process is writing; try again"
        elif "does not exist" in reason and "database" in reason:
            advice = "create it: createdb NAME"
        elif "permission denied" in reason or "authentication" in reason:
            advice = "check the user and password in KEVOLVE_CATALOGUE_URL"
        elif isinstance(err, OperationalError):
            advice = "check that the server runs and that KEVOLVE_CATALOGUE_URL is right; nothing was lost"
        return StoreError(f"cannot use {self.name!r}: {reason}; {advice}")


def database_at(place: str | Path) -> Database:
    """Return the database at an address or path."""
    if isinstance(place, str) and place.startswith(("postgresql:", "postgresql+", "postgres:")):
        return Postgres("postgresql" + place[place.index(":") :])
    return Sqlite(Path(place))


def _prepare_sqlite(connection: Any, record: object) -> None:  # Any: sqlite3.Connection as SQLAlchemy hands it
    connection.isolation_level = None  # transactions begin in _begin_sqlite, not implicitly
    cursor = connection.cursor()
    for pragma in (
        "journal_mode = WAL",
        "synchronous = NORMAL",
        f"busy_timeout = {BUSY_TIMEOUT_MS}",
        "foreign_keys = ON",
        "cache_size = -32000",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.get_execution_options().get("kb_write") else "BEGIN")


def _begin_postgres(connection: Connection) -> None:
    if connection.get_execution_options().get("kb_write"):
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = {BUSY_TIMEOUT_MS}")
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({WRITER_KEY})")
    else:
        connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
