"""Where LangGraph keeps the state between two steps: SQLite beside the run store, or the PostgreSQL that the run store is in.

Only the latest checkpoints of a run are kept, so that their number does not grow with the run.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from agents.errors import RunStoreError
from agents.runs.store import RunStore

_PRUNE_EVERY = 32


@asynccontextmanager
async def open_checkpoints(store: RunStore) -> AsyncIterator[Any]:  # Any: langgraph's savers carry type parameters of their own
    """Yield the checkpoint saver that belongs to a run store.

    Raises:
        RunStoreError: The database cannot be opened, or a package is missing.
    """
    opened = _sqlite(store) if store.is_sqlite else _postgres(store)
    async with opened as saver:
        yield saver


@asynccontextmanager
async def _sqlite(store: RunStore) -> AsyncIterator[Any]:  # Any: as above
    import aiosqlite
    from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

    class Saver(AsyncSqliteSaver):
        """Deletes what lies before the latest checkpoint but one."""

        _puts = 0

        async def aput(self, config: Any, *rest: Any, **more: Any) -> Any:  # Any: handed on as it comes
            done = await super().aput(config, *rest, **more)
            self._puts += 1
            if self._puts % _PRUNE_EVERY == 0:
                thread = config["configurable"]["thread_id"]
                async with self.lock:
                    for table in ("writes", "checkpoints"):
                        await self.conn.execute(
                            f"DELETE FROM {table} WHERE thread_id = ? AND checkpoint_id < "
                            "(SELECT min(checkpoint_id) FROM (SELECT checkpoint_id FROM checkpoints WHERE thread_id = ? "
                            "ORDER BY checkpoint_id DESC LIMIT 2))",
                            (thread, thread),
                        )
                    await self.conn.commit()
            return done

    path = store.home / "checkpoints.sqlite"
    try:
        connection = await aiosqlite.connect(path)
    except aiosqlite.Error as error:
        raise RunStoreError(f"cannot open the checkpoints {path}: {error}; check free space and permissions") from error
    try:
        try:
            await connection.execute("PRAGMA busy_timeout=30000")
            # A checkpoint that a power failure takes back is older than the run store, and then steps find their work done.
            await connection.execute("PRAGMA synchronous=NORMAL")
            saver = Saver(connection)
            await saver.setup()
        except aiosqlite.Error as error:
            raise RunStoreError(f"cannot open the checkpoints {path}: {error}; check free space and permissions") from error
        yield saver
    finally:
        await connection.close()


@asynccontextmanager
async def _postgres(store: RunStore) -> AsyncIterator[Any]:  # Any: as above
    try:
        import psycopg
        from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
        from psycopg.rows import dict_row
    except ImportError as error:
        raise RunStoreError("checkpoints in PostgreSQL need: pip install 'kernelevolve[postgres]'") from error

    class Saver(AsyncPostgresSaver):
        """Deletes all but the latest checkpoint now and then."""

        _puts = 0

        async def aput(self, config: Any, *rest: Any, **more: Any) -> Any:  # Any: handed on as it comes
            done = await super().aput(config, *rest, **more)
            self._puts += 1
            if self._puts % _PRUNE_EVERY == 0:
                await self.aprune([config["configurable"]["thread_id"]], strategy="keep_latest")
            return done

    url = store.url.replace("postgresql+psycopg://", "postgresql://", 1)
    try:
        connection = await psycopg.AsyncConnection.connect(url, autocommit=True, prepare_threshold=0, row_factory=dict_row)
    except psycopg.Error as error:
        raise RunStoreError(f"cannot open the checkpoints: {error}") from error
    async with connection:
        saver = Saver(connection)
        await connection.execute("SELECT pg_advisory_lock(hashtext('kevolve checkpoints'))")
        try:
            await saver.setup()
        finally:
            await connection.execute("SELECT pg_advisory_unlock(hashtext('kevolve checkpoints'))")
        yield saver
