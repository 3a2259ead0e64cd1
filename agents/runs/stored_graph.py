"""The search graph of a run as strategies see it, answered by the database: no question reads more than an index range, however many nodes there are."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

from sqlalchemy import Connection, Select, bindparam, func, select
from sqlalchemy.orm import Session

from agents.runs.models import PlaceRow
from agents.strategies.base import IslandView
from agents.strategies.places import Place, island_place, parents_key

OpenSession = Callable[[], AbstractContextManager[Session]]
_PLACES: Any = PlaceRow.__table__  # Any: SQLAlchemy types a mapped class's table as what can be selected from
_C = _PLACES.c
_COLUMNS = tuple(_C[field.name] for field in dataclasses.fields(Place))
_ONE = select(*_COLUMNS).where(_C.run_id == bindparam("run_id"), _C.place_id == bindparam("place_id"))


def _path() -> Any:  # Any: a statement over plain tables
    above = _PLACES.alias()
    path = (
        select(_C.place_id, _C.parent_id)
        .where(_C.run_id == bindparam("run_id"), _C.place_id == bindparam("place_id"))
        .cte("path", recursive=True)
    )
    path = path.union_all(
        select(above.c.place_id, above.c.parent_id).where(above.c.run_id == bindparam("run_id"), above.c.place_id == path.c.parent_id)
    )
    return select(*_COLUMNS).where(_C.run_id == bindparam("run_id"), _C.place_id.in_(select(path.c.place_id)))


_PATH = _path()


class StoredGraph:
    """A `GraphView` over the places of one run.

    Args:
        read: Opens a database session for reading.
        run_id: The run.
    """

    def __init__(self, read: OpenSession, run_id: str) -> None:
        self._read = read
        self._run_id = run_id

    def place(self, *parents: str) -> Place:
        """See `GraphView.place`."""
        place_id = parents_key(parents)
        found = self._fetch(self._query().where(_C.place_id == place_id))
        return found[0] if found else Place(place_id, "root" if not parents else "pair", position=-1)

    def latest(self) -> Place | None:
        """See `GraphView.latest`."""
        return next(iter(self._fetch(self._query("node").order_by(_C.position.desc()).limit(1))), None)

    def best(self, island: int | None = None) -> Place | None:
        """See `GraphView.best`."""
        return next(iter(self.frontier(1, island)), None)

    def frontier(self, limit: int, island: int | None = None) -> list[Place]:
        """Return the open nodes, the fittest first; of equals those with fewer children, then the earlier ones."""
        query = self._query("node").where(_C.is_open.is_(True))
        if island is not None:
            query = query.where(_C.island == island)
        return self._fetch(query.order_by(_C.fitness.desc(), _C.children, _C.position).limit(limit))

    def children(self, place_id: str) -> Sequence[Place]:
        """See `GraphView.children`."""
        return self._fetch(self._query().where(_C.parent_id == place_id).order_by(_C.position))

    def island(self, number: int) -> IslandView:
        """See `GraphView.island`."""
        statistics = next(iter(self._fetch(self._query().where(_C.place_id == island_place(number)))), None)
        mine = (_C.run_id == self._run_id, _C.kind == "node", _C.island == number)
        # From cell to cell by the index, and in each to its first entry: the number of nodes does not matter, only that of the cells.
        cells = select(func.min(_C.cell).label("cell")).where(*mine).cte("cells", recursive=True)
        further = select(func.min(_C.cell)).where(*mine, _C.cell > cells.c.cell).scalar_subquery()
        cells = cells.union_all(select(further).where(cells.c.cell.is_not(None)))
        ordered = select(_C.place_id).where(*mine, _C.cell == cells.c.cell).order_by(_C.fitness.desc(), _C.position)
        with self._read() as session:
            ids = session.scalars(select(ordered.limit(1).scalar_subquery()).where(cells.c.cell.is_not(None))).all()
        found = self._fetch(self._query("node").where(_C.place_id.in_(ids)).order_by(_C.position)) if ids else []
        elites = [place for place in found if place.fitness > 0] or found
        since_best = statistics.visits - statistics.best_at if statistics else 0
        return IslandView(statistics.visits if statistics else 0, since_best, tuple(elites))

    def _query(self, kind: str | None = None) -> Select[Any]:
        query = select(*_COLUMNS).where(_C.run_id == self._run_id)
        return query if kind is None else query.where(_C.kind == kind)

    def _fetch(self, query: Select[Any]) -> list[Place]:
        with self._read() as session:
            return [place_of(row) for row in session.execute(query)]


def place_of(row: Sequence[object]) -> Place:
    """Build a place from the columns of its row, in the order of `Place`'s fields."""
    values = list(row)
    values[2] = tuple(values[2])  # type: ignore[arg-type]  # a JSON list of ids
    return Place(*values)  # type: ignore[arg-type]  # the columns have the fields' types


def columns_of(place: Place) -> dict[str, object]:
    """Return a place as column values."""
    values: dict[str, object] = {column.key: getattr(place, column.key) for column in _COLUMNS}
    return {**values, "parents": list(place.parents), "parent_id": place.parent, "is_open": place.is_open}


def load_place(connection: Connection, run_id: str, place_id: str) -> Place | None:
    """Return a place as stored, or None."""
    row = connection.execute(_ONE, {"run_id": run_id, "place_id": place_id}).first()
    return place_of(row) if row is not None else None


def load_path(connection: Connection, run_id: str, place_id: str) -> list[Place]:
    """Return a node and the places above it along first parents, up to the root, by one recursive query."""
    return [place_of(row) for row in connection.execute(_PATH, {"run_id": run_id, "place_id": place_id})]
