"""Leases: one process at a time drives a run, and only its holder writes to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Row, bindparam, select, update

from agents.errors import RunStateError
from agents.runs.database import Database
from agents.runs.lease import Holder, is_alive
from agents.runs.questions import run_row
from agents.runs.records import RunStatus
from agents.runs.tables import RUNS

Clock = Callable[[], float]
_RUN = select(RUNS).where(RUNS.c.run_id == bindparam("run_id")).with_for_update()
_LEASE = select(RUNS.c.lease_owner, RUNS.c.lease_pid, RUNS.c.lease_host).where(RUNS.c.run_id == bindparam("run_id")).with_for_update()
_FREE = dict.fromkeys(("lease_owner", "lease_host", "lease_pid", "lease_started", "lease_beat"))
"""What stands in a run's row while nobody drives it."""


class Leases:
    """The leases that this process holds in one database.

    Args:
        clock: Seconds since the epoch.
    """

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database, self._clock = database, clock
        self._holders: dict[str, Holder] = {}

    @property
    def held(self) -> list[str]:
        """Runs whose lease this process holds."""
        return list(self._holders)

    def columns(self, holder: Holder) -> dict[str, Any]:  # Any: column values of several types
        """Return what stands in a run's row while `holder` drives it."""
        return {
            "lease_owner": holder.owner,
            "lease_host": holder.host,
            "lease_pid": holder.pid,
            "lease_started": holder.started,
            "lease_beat": self._clock(),
        }

    def keep(self, run_id: str, holder: Holder) -> None:
        """Remember a lease that was taken with the run's insert."""
        self._holders[run_id] = holder

    def acquire(self, run_id: str) -> None:
        """See `RunStore.acquire`."""
        holder = Holder.current()
        with self._database.writing() as connection:
            row = connection.execute(_RUN, {"run_id": run_id}).first() or run_row(connection, run_id)
            if row.status != RunStatus.OPEN.value:
                raise RunStateError(f"run {run_id} is {row.status}; there is nothing to resume. `kevolve show {run_id}` shows its result")
            if self.is_driven(row):
                raise RunStateError(
                    f"run {run_id} is driven by process {row.lease_pid} on {row.lease_host}; wait until it ends or stop it, then resume"
                )
            connection.execute(update(RUNS).where(RUNS.c.run_id == row.run_id).values(**self.columns(holder)))
        self._holders[run_id] = holder

    def release(self, run_id: str) -> None:
        """See `RunStore.release`."""
        holder = self._holders.pop(run_id, None)
        if holder is None:
            return
        with self._database.writing() as connection:
            mine = (RUNS.c.run_id == run_id, RUNS.c.lease_owner == holder.owner)
            connection.execute(update(RUNS).where(*mine).values(**_FREE))

    def is_driven(self, row: Row[Any]) -> bool:  # Any: a row of `runs`
        """Return whether a living process holds the run's lease."""
        if row.lease_owner is None:
            return False
        holder = Holder(owner=row.lease_owner, host=row.lease_host or "", pid=row.lease_pid or 0, started=row.lease_started or "")
        return is_alive(holder, beat=row.lease_beat or 0.0, now=self._clock())

    @contextmanager
    def writing(self, run_id: str, is_precious: bool = True) -> Iterator[Connection]:
        """Open a transaction in which this process still holds the lease.

        Raises:
            RunStateError: It does not.
        """
        holder = self._holders.get(run_id)
        if holder is None:
            raise RunStateError(f"this process does not hold the lease of run {run_id}; acquire it first")
        with self._database.writing(is_precious) as connection:
            owner, pid, host = connection.execute(_LEASE, {"run_id": run_id}).one()
            if owner != holder.owner:
                raise RunStateError(f"run {run_id} was taken over by process {pid} on {host}; this process stops")
            yield connection
