"""When something was busy: the union of many intervals, in bounded memory."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

MAX_INTERVALS = 50_000


@dataclass(frozen=True)
class Busy:
    """The union of intervals and the gaps in it, all in the unit of the intervals."""

    first: float
    last: float
    busy: float
    gaps: tuple[tuple[float, float], ...]
    """(begin, length) of the longest gaps, longest first."""
    num_gaps: int
    closed: float
    """Gap time that was counted as busy because too many intervals had to be remembered; 0.0: the union is exact."""

    @property
    def idle(self) -> float:
        """Time between first and last in which nothing ran."""
        return self.last - self.first - self.busy


class Union:
    """Collects intervals in any order. Beyond the bound the smallest gaps are closed, and how much that was is reported."""

    def __init__(self, limit: int = MAX_INTERVALS) -> None:
        self._limit = max(limit, 4)
        self._items: list[tuple[float, float]] = []
        self._closed = 0.0

    def add(self, begin: float, end: float) -> None:
        """Add an interval; one that ends before it begins is empty."""
        self._items.append((begin, max(begin, end)))
        if len(self._items) >= self._limit:
            self._shrink()

    def result(self, keep: int = 20) -> Busy | None:
        """Return the union with its longest gaps; None if nothing was added."""
        if not self._items:
            return None
        self._items = _joined(self._items)
        gaps = [(before[1], after[0] - before[1]) for before, after in zip(self._items, self._items[1:], strict=False)]
        longest = tuple(sorted(gaps, key=lambda gap: (-gap[1], gap[0]))[:keep])
        busy = sum(end - begin for begin, end in self._items)
        return Busy(self._items[0][0], self._items[-1][1], busy, longest, len(gaps), self._closed)

    def _shrink(self) -> None:
        items = _joined(self._items)
        if len(items) > self._limit // 2:
            gaps = sorted(after[0] - before[1] for before, after in itertools.pairwise(items))
            bar = gaps[len(items) - self._limit // 4]
            kept = [items[0]]
            for begin, end in items[1:]:
                gap = begin - kept[-1][1]
                if gap <= bar:
                    self._closed += gap
                    kept[-1] = (kept[-1][0], end)
                else:
                    kept.append((begin, end))
            items = kept
        self._items = items


def _joined(items: list[tuple[float, float]]) -> list[tuple[float, float]]:
    joined: list[tuple[float, float]] = []
    for begin, end in sorted(items):
        if joined and begin <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(joined[-1][1], end))
        else:
            joined.append((begin, end))
    return joined
