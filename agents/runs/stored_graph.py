"""The search graph of a run as strategies see it, answered by the database: no question reads more than an index range, however many nodes there are."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

from sqlalchemy import BindParameter, Connection, Row, bindparam, func, select

from agents.runs.tables import PLACES
from agents.strategies.base import IslandView
from agents.strategies.places import Place, island_place, parents_key

OpenConnection = Callable[[], AbstractContextManager[Connection]]
_C = PLACES.c
_FIELDS = tuple(field.name for field in dataclasses.fields(Place))
_SELECTED = select(*(_C[name] for name in _FIELDS))
_IN_RUN = _C.run_id == bindparam("run_id")
_NODES = (_IN_RUN, _C.kind == "node")
_OPEN = (*_NODES, _C.is_open.is_(True))
_OF_ISLAND = _C.island == bindparam("island")
_BY_FITNESS = (_C.fitness.desc(), _C.children, _C.position)
_LIMIT: BindParameter[Any] = bindparam("limit")
_ONE = _SELECTED.where(_IN_RUN, _C.place_id == bindparam("place_id"))
_SOME = _SELECTED.where(_IN_RUN, _C.place_id.in_(bindparam("place_ids", expanding=True)))
_LATEST = _SELECTED.where(*_NODES).order_by(_C.position.desc()).limit(1)
_FRONTIER = _SELECTED.where(*_OPEN).order_by(*_BY_FITNESS).limit(_LIMIT)
_FRONTIER_OF_ISLAND = _SELECTED.where(*_OPEN, _OF_ISLAND).order_by(*_BY_FITNESS).limit(_LIMIT)
_CHILDREN = _SELECTED.where(_IN_RUN, _C.parent_id == bindparam("parent_id")).order_by(_C.position)


def _path() -> Any:  # Any, here and below: statements over plain tables
    above = PLACES.alias()
    path = select(_C.place_id, _C.parent_id).where(_IN_RUN, _C.place_id == bindparam("place_id")).cte("path", recursive=True)
    further = select(above.c.place_id, above.c.parent_id)
    path = path.union_all(further.where(above.c.run_id == bindparam("run_id"), above.c.place_id == path.c.parent_id))
    return _SELECTED.where(_IN_RUN, _C.place_id.in_(select(path.c.place_id)))


def _elites() -> Any:
    """From cell to cell by the index, and in each to its first entry: the number of nodes does not matter, only that of the cells."""
    mine = (*_NODES, _OF_ISLAND)
    cells = select(func.min(_C.cell).label("cell")).where(*mine).cte("cells", recursive=True)
    further = select(func.min(_C.cell)).where(*mine, _C.cell > cells.c.cell).scalar_subquery()
    cells = cells.union_all(select(further).where(cells.c.cell.is_not(None)))
    first = select(_C.place_id).where(*mine, _C.cell == cells.c.cell).order_by(_C.fitness.desc(), _C.position).limit(1)
    return select(first.scalar_subquery()).where(cells.c.cell.is_not(None))


_PATH, _ELITES = _path(), _elites()


class StoredGraph:
    """A `GraphView` over the places of one run.

    Args:
        read: Opens a connection for reading.
        run_id: The run.
    """

    def __init__(self, read: OpenConnection, run_id: str) -> None:
        self._read = read
        self._run_id = run_id

    def place(self, *parents: str) -> Place:
        """See `GraphView.place`."""
        place_id = parents_key(parents)
        found = self._ask(_ONE, place_id=place_id)
        return found[0] if found else Place(place_id, "root" if not parents else "pair", position=-1)

    def latest(self) -> Place | None:
        """See `GraphView.latest`."""
        return next(iter(self._ask(_LATEST)), None)

    def best(self, island: int | None = None) -> Place | None:
        """See `GraphView.best`."""
        return next(iter(self.frontier(1, island)), None)

    def frontier(self, limit: int, island: int | None = None) -> list[Place]:
        """Return the open nodes, the fittest first; of equals those with fewer children, then the earlier ones."""
        return self._ask(_FRONTIER, limit=limit) if island is None else self._ask(_FRONTIER_OF_ISLAND, limit=limit, island=island)

    def children(self, place_id: str) -> Sequence[Place]:
        """See `GraphView.children`."""
        return self._ask(_CHILDREN, parent_id=place_id)

    def island(self, number: int) -> IslandView:
        """See `GraphView.island`."""
        statistics = next(iter(self._ask(_ONE, place_id=island_place(number))), None)
        with self._read() as connection:
            ids = connection.execute(_ELITES, {"run_id": self._run_id, "island": number}).scalars().all()
        # Sorted here: told to, SQLite would walk through all places in that order.
        found = sorted(self._ask(_SOME, place_ids=ids) if ids else [], key=lambda place: place.position)
        elites = [place for place in found if place.fitness > 0] or found
        since_best = statistics.visits - statistics.best_at if statistics else 0
        return IslandView(statistics.visits if statistics else 0, since_best, tuple(elites))

    def _ask(self, statement: Any, **named: object) -> list[Place]:
        with self._read() as connection:
            return [place_of(row) for row in connection.execute(statement, {"run_id": self._run_id, **named})]


def place_of(row: Row[Any]) -> Place:  # Any: the columns have the types of the fields
    """Build a place from the columns of its row, in the order of `Place`'s fields."""
    place_id, kind, parents, *rest = row
    return Place(place_id, kind, tuple(parents), *rest)


def columns_of(place: Place) -> dict[str, object]:
    """Return a place as column values."""
    values: dict[str, object] = {name: getattr(place, name) for name in _FIELDS}
    return {**values, "parents": list(place.parents), "parent_id": place.parent, "is_open": place.is_open}


def load_place(connection: Connection, run_id: str, place_id: str) -> Place | None:
    """Return a place as stored, or None."""
    row = connection.execute(_ONE, {"run_id": run_id, "place_id": place_id}).first()
    return place_of(row) if row is not None else None


def load_path(connection: Connection, run_id: str, place_id: str) -> list[Place]:
    """Return a node and the places above it along first parents, up to the root, by one recursive query."""
    return [place_of(row) for row in connection.execute(_PATH, {"run_id": run_id, "place_id": place_id})]
