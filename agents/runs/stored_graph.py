"""The search graph of a run as strategies see it, answered by the database: no question reads more than an index range, however many nodes there are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session, aliased

from agents.runs.models import PlaceRow
from agents.strategies.base import IslandView
from agents.strategies.places import Place, island_place, parents_key

OpenSession = Callable[[], AbstractContextManager[Session]]
_COLUMNS = (
    PlaceRow.place_id,
    PlaceRow.kind,
    PlaceRow.parents,
    PlaceRow.fitness,
    PlaceRow.position,
    PlaceRow.cell,
    PlaceRow.island,
    PlaceRow.generation,
    PlaceRow.children,
    PlaceRow.alive_children,
    PlaceRow.visits,
    PlaceRow.total,
    PlaceRow.best,
    PlaceRow.best_at,
    PlaceRow.exhaustion,
    PlaceRow.ucb,
)


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
        found = self._fetch(self._query().where(PlaceRow.place_id == place_id))
        return found[0] if found else Place(place_id, "root" if not parents else "pair", position=-1)

    def latest(self) -> Place | None:
        """See `GraphView.latest`."""
        return next(iter(self._fetch(self._query("node").order_by(PlaceRow.position.desc()).limit(1))), None)

    def best(self, island: int | None = None) -> Place | None:
        """See `GraphView.best`."""
        return next(iter(self.frontier(1, island)), None)

    def frontier(self, limit: int, island: int | None = None) -> list[Place]:
        """Return the open nodes, the fittest first; of equals those with fewer children, then the earlier ones."""
        query = self._query("node").where(PlaceRow.is_open.is_(True))
        if island is not None:
            query = query.where(PlaceRow.island == island)
        return self._fetch(query.order_by(PlaceRow.fitness.desc(), PlaceRow.children, PlaceRow.position).limit(limit))

    def children(self, place_id: str) -> Sequence[Place]:
        """See `GraphView.children`."""
        return self._fetch(self._query().where(PlaceRow.parent_id == place_id).order_by(PlaceRow.position))

    def island(self, number: int) -> IslandView:
        """See `GraphView.island`."""
        statistics = next(iter(self._fetch(self._query().where(PlaceRow.place_id == island_place(number)))), None)
        mine = (PlaceRow.run_id == self._run_id, PlaceRow.kind == "node", PlaceRow.island == number)
        # From cell to cell by the index, and in each to its first entry: the number of nodes does not matter, only that of the cells.
        cells = select(func.min(PlaceRow.cell).label("cell")).where(*mine).cte("cells", recursive=True)
        further = select(func.min(PlaceRow.cell)).where(*mine, PlaceRow.cell > cells.c.cell).scalar_subquery()
        cells = cells.union_all(select(further).where(cells.c.cell.is_not(None)))
        ordered = select(PlaceRow.place_id).where(*mine, PlaceRow.cell == cells.c.cell).order_by(PlaceRow.fitness.desc(), PlaceRow.position)
        with self._read() as session:
            ids = session.scalars(select(ordered.limit(1).scalar_subquery()).where(cells.c.cell.is_not(None))).all()
        found = self._fetch(self._query("node").where(PlaceRow.place_id.in_(ids)).order_by(PlaceRow.position)) if ids else []
        elites = [place for place in found if place.fitness > 0] or found
        since_best = statistics.visits - statistics.best_at if statistics else 0
        return IslandView(statistics.visits if statistics else 0, since_best, tuple(elites))

    def _query(self, kind: str | None = None) -> Select[tuple[object, ...]]:
        query = select(*_COLUMNS).where(PlaceRow.run_id == self._run_id)
        return query if kind is None else query.where(PlaceRow.kind == kind)

    def _fetch(self, query: Select[tuple[object, ...]]) -> list[Place]:
        with self._read() as session:
            return [place_of(row) for row in session.execute(query)]


def place_of(row: Sequence[object]) -> Place:
    """Build a place from the columns of its row, in the order of `Place`'s fields."""
    values = list(row)
    values[2] = tuple(values[2])  # type: ignore[arg-type]  # a JSON list of ids
    return Place(*values)  # type: ignore[arg-type]  # the columns have the fields' types


def columns_of(place: Place) -> dict[str, object]:
    """Return a place as column values."""
    values: dict[str, object] = {name.key: getattr(place, name.key) for name in _COLUMNS}
    return {**values, "parents": list(place.parents), "parent_id": place.parent, "is_open": place.is_open}


def load_place(session: Session, run_id: str, place_id: str) -> Place | None:
    """Return a place as stored, or None."""
    row = session.execute(select(*_COLUMNS).where(PlaceRow.run_id == run_id, PlaceRow.place_id == place_id)).first()
    return place_of(row) if row is not None else None


def load_path(session: Session, run_id: str, place_id: str) -> list[Place]:
    """Return a node and the places above it along first parents, up to the root, by one recursive query."""
    above = aliased(PlaceRow)
    path = (
        select(PlaceRow.place_id, PlaceRow.parent_id)
        .where(PlaceRow.run_id == run_id, PlaceRow.place_id == place_id)
        .cte("path", recursive=True)
    )
    path = path.union_all(select(above.place_id, above.parent_id).where(above.run_id == run_id, above.place_id == path.c.parent_id))
    rows = session.execute(select(*_COLUMNS).where(PlaceRow.run_id == run_id, PlaceRow.place_id.in_(select(path.c.place_id))))
    return [place_of(row) for row in rows]
