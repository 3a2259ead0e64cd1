"""What is computed from all chunks and kept in memory: how it follows the catalogue, and how it is kept between processes.

Chunks never change and their numbers are never used again, so a part over the chunks up to some number stays right: what came since is read as a further
part, what is gone is masked out. When too much lies outside the first part, all are merged into one, which a file keeps for the next process.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from sqlalchemy import Connection, text

from kb.arrays import load_arrays, save_arrays

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

KEPT_CHUNKS = 5000
"""From so many chunks on, the first part is kept in a file."""
MERGE_SHARE = 0.1
"""Parts are merged when this share of the chunks lies outside the first part or is gone."""
MOST_PARTS = 8


class Part(Protocol):
    """Something computed from a run of chunks."""

    @property
    def numbers(self) -> NDArray[np.int64]:
        """(chunks,), ascending."""


_Part = TypeVar("_Part", bound=Part)


@dataclass(frozen=True)
class State(Generic[_Part]):
    """The parts at one generation of the catalogue."""

    generation: int
    stamp: str
    """What else must be equal for parts to be of use: the base, the embedder."""
    parts: tuple[_Part, ...]
    alive: tuple[NDArray[np.bool_] | None, ...]
    """Per part: which of its chunks still exist; None: all."""
    num_chunks: int


class Derived(Generic[_Part]):
    """Keeps the parts of one catalogue up to date; safe for threads.

    Args:
        folder: Where the first part is kept between processes; None: nowhere.
        read: Returns the part over the chunks with a number above the given one.
        merge: Returns one part with what is alive of several.
        make: Builds a part from kept arrays.
    """

    def __init__(
        self,
        folder: Path | None,
        read: Callable[[Connection, int], _Part],
        merge: Callable[[Sequence[_Part], Sequence[NDArray[np.bool_] | None]], _Part],
        make: Callable[[Mapping[str, NDArray[Any]]], _Part],  # Any: dtypes
    ) -> None:
        self._folder = folder
        self._read = read
        self._merge = merge
        self._make = make
        self._current: State[_Part] | None = None
        self._guard = threading.Lock()

    def at(self, connection: Connection, generation: int, stamp: str) -> State[_Part]:
        """Return the parts of the state that the connection sees."""
        current = self._current
        if current is not None and (current.generation, current.stamp) == (generation, stamp):
            return current
        with self._guard:
            current = self._current
            if current is not None and (current.generation, current.stamp) == (generation, stamp):
                return current
            known = current.parts if current is not None and current.stamp == stamp else self._kept(stamp)
            fresh = self._follow(connection, known, generation, stamp)
            if current is None or current.stamp != stamp or fresh.generation >= current.generation:
                self._current = fresh
            return fresh

    def _follow(self, connection: Connection, known: tuple[_Part, ...], generation: int, stamp: str) -> State[_Part]:
        parts = self._extended(connection, known)
        there = int(connection.execute(text("SELECT count(*) FROM chunks")).scalar_one())
        alive = _alive(connection, parts, there)
        if known and _total(parts, alive) < there:  # something below the last number was missing when it was read
            parts = self._extended(connection, ())
            alive = _alive(connection, parts, there)
        read = _total(parts, tuple(None for _ in parts))
        outside = read - (len(parts[0].numbers) if parts else 0)
        if len(parts) > MOST_PARTS or max(outside, read - there) > MERGE_SHARE * read:
            parts, alive = self._keep((self._merge(parts, alive),), stamp), (None,)
        elif not known and parts:
            parts = self._keep(parts, stamp)
        return State(generation, stamp, parts, alive, _total(parts, alive))

    def _extended(self, connection: Connection, parts: tuple[_Part, ...]) -> tuple[_Part, ...]:
        last = max((int(part.numbers[-1]) for part in parts if len(part.numbers)), default=0)
        fresh = self._read(connection, last)
        return (*parts, fresh) if len(fresh.numbers) else parts

    def _kept(self, stamp: str) -> tuple[_Part, ...]:
        arrays = load_arrays(self._folder, stamp) if self._folder is not None else None
        return () if arrays is None else (self._make(arrays),)

    def _keep(self, parts: tuple[_Part, ...], stamp: str) -> tuple[_Part, ...]:
        """Return the parts as they are, or the only one mapped from its file, so that memory is the system's to take back."""
        if self._folder is None or len(parts) != 1 or len(parts[0].numbers) < KEPT_CHUNKS:
            return parts
        save_arrays(self._folder, stamp, dict(vars(parts[0])))
        return self._kept(stamp) or parts


def _total(parts: Sequence[Part], alive: Sequence[NDArray[np.bool_] | None]) -> int:
    return sum(len(part.numbers) if there is None else int(there.sum()) for part, there in zip(parts, alive, strict=True))


def _alive(connection: Connection, parts: Sequence[Part], there: int) -> tuple[NDArray[np.bool_] | None, ...]:
    import numpy as np

    if there == sum(len(part.numbers) for part in parts):
        return tuple(None for _ in parts)
    numbers = np.fromiter(connection.execute(text("SELECT number FROM chunks")).scalars(), dtype=np.int64)
    return tuple(np.isin(part.numbers, numbers, assume_unique=True) for part in parts)
