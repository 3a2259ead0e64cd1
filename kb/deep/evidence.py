"""What speaks for each section: the ranked lists of all formulations, fused by weighted reciprocal ranks over sections.

Ranks rather than scores are fused, because the scores of different queries are not comparable. Reciprocal rank fusion: Cormack, Clarke and Büttcher 2009.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from kb.types import Hit

Key = tuple[str, tuple[str, ...]]
"""A section: source path and heading path."""

FLATNESS = 4.0
"""Added to ranks before they are inverted: the larger, the less the first places count against presence in many lists."""


def key_of(hit: Hit) -> Key:
    """Return the section of a hit."""
    return hit.source.path, hit.section_path


@dataclass
class Evidence:
    """A section met during a search."""

    hit: Hit
    """Its best chunk so far."""
    score: float = 0.0
    how: dict[str, float] = field(default_factory=dict)
    """What each way of looking contributed."""
    best_rank: int = 1_000_000
    """Best place of the chunk in any list."""


class Pool:
    """The sections met for one part of a question."""

    def __init__(self) -> None:
        self.sections: dict[Key, Evidence] = {}
        self._leaders: dict[str, dict[Key, None]] = {}

    def add(self, hits: Sequence[Hit], how: str, weight: float) -> None:
        """Add a ranked list: each section counts once, at the place of its first chunk."""
        self._leaders.setdefault(how, {}).update((key_of(hit), None) for hit in hits[:1])
        seen: set[Key] = set()
        for hit in hits:
            key = key_of(hit)
            if key in seen:
                continue
            seen.add(key)
            self.credit(hit, how, weight / (FLATNESS + len(seen)), len(seen))

    def credit(self, hit: Hit, how: str, value: float, rank: int) -> None:
        """Add to the score of one section."""
        evidence = self.sections.setdefault(key_of(hit), Evidence(hit))
        evidence.score += value
        evidence.how[how] = evidence.how.get(how, 0.0) + value
        if rank < evidence.best_rank:
            evidence.hit, evidence.best_rank = hit, rank

    def ranked(self) -> list[Evidence]:
        """Return the sections, best first; ties by chunk id."""
        return sorted(self.sections.values(), key=lambda item: (-item.score, item.hit.chunk_id))

    def leaders(self, how: str) -> list[Evidence]:
        """Return the sections that came first in a list of one way of looking."""
        return [self.sections[key] for key in self._leaders.get(how, {})]

    def documents(self) -> list[str]:
        """Return the sources, those with most evidence first."""
        totals: dict[str, float] = {}
        for item in self.sections.values():
            totals[item.hit.source.path] = totals.get(item.hit.source.path, 0.0) + item.score
        return sorted(totals, key=lambda source: (-totals[source], source))


def take_turns(rankings: Iterable[Sequence[Evidence]], limit: int) -> list[tuple[int, Evidence]]:
    """Merge rankings by turns, each section once: (index of the ranking, evidence)."""
    lists = [list(ranking) for ranking in rankings]
    merged: list[tuple[int, Evidence]] = []
    used: set[Key] = set()
    positions = [0] * len(lists)
    while len(merged) < limit and any(position < len(items) for position, items in zip(positions, lists, strict=True)):
        for index, items in enumerate(lists):
            while positions[index] < len(items) and key_of(items[positions[index]].hit) in used:
                positions[index] += 1
            if positions[index] < len(items) and len(merged) < limit:
                item = items[positions[index]]
                used.add(key_of(item.hit))
                merged.append((index, item))
                positions[index] += 1
    return merged
