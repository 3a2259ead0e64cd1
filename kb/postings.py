"""The inverted index in memory: which chunk holds which word how often, in arrays that a file can back, scored by BM25.

It is derived from the table `chunk_words` and follows it as `kb/derived.py` says. BM25 as in SQLite's FTS5 (https://www.sqlite.org/fts5.html, section 5.1.1: k1 = 1.2, b = 0.75,
column weights on the counts, length over all columns).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, text

from kb.arrays import places_of
from kb.derived import Derived, State
from kb.meta import settings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

K1, B = 1.2, 0.75
LEAST_IDF = 1e-6
READ_ROWS = 20_000


@dataclass(frozen=True)
class Part:
    """Postings of a run of chunks."""

    numbers: NDArray[np.int64]
    """(chunks,), ascending."""
    lengths: NDArray[np.int32]
    """(chunks,): tokens over all columns."""
    words: NDArray[np.uint64]
    """(words,), ascending: keys of the words that occur."""
    starts: NDArray[np.int64]
    """(words + 1,): where the postings of each word begin."""
    rows: NDArray[np.int32]
    """(postings,): rows of chunks, ascending within a word."""
    counts: NDArray[np.uint8]
    """(postings, columns): occurrences in path, body and identifier parts, at most 255."""

    def of(self, word: int) -> slice:
        """Return where the postings of a word are."""
        import numpy as np

        place = int(np.searchsorted(self.words, np.uint64(word)))
        if place == len(self.words) or int(self.words[place]) != word:
            return slice(0, 0)
        return slice(int(self.starts[place]), int(self.starts[place + 1]))


class Postings:
    """All postings at one generation of the catalogue.

    Args:
        state: The parts and which of their chunks exist.
    """

    def __init__(self, state: State[Part]) -> None:
        self.state = state
        self.parts, self.alive, self.num_chunks = state.parts, state.alive, state.num_chunks
        tokens = sum(
            int((part.lengths if there is None else part.lengths[there]).sum()) for part, there in zip(self.parts, self.alive, strict=True)
        )
        mean = tokens / self.num_chunks if self.num_chunks and tokens else 1.0
        self._known_information: dict[int, float] = {}
        self.norms = tuple((K1 * (1.0 - B + B * part.lengths / mean)).astype("float64") for part in self.parts)

    def search(
        self, words: Sequence[int], weights: Sequence[float], top_k: int, allowed: NDArray[np.int64] | None
    ) -> list[tuple[int, float]]:
        """Return the best chunks for any of the words as (number, score), best first, ties by number.

        Args:
            words: Keys; one that is given twice counts twice.
            weights: Of the columns.
            top_k: Most chunks to return.
            allowed: Numbers in scope, ascending; None: all.
        """
        import numpy as np

        column_weights = np.asarray(weights, dtype=np.float64)
        scores = [np.zeros(len(part.numbers), dtype=np.float64) for part in self.parts]
        idf = self._information(words)
        for word in words:
            if word not in idf:
                continue
            for part, norm, score in zip(self.parts, self.norms, scores, strict=True):
                place = part.of(word)
                rows = part.rows[place]
                if len(rows):
                    frequency = part.counts[place] @ column_weights
                    score[rows] += idf[word] * (frequency * (K1 + 1.0)) / (frequency + norm[rows])
        best: list[tuple[int, float]] = []
        for part, alive, score in zip(self.parts, self.alive, scores, strict=True):
            if alive is not None:
                score[~alive] = 0.0
            if allowed is not None:
                inside = np.zeros(len(part.numbers), dtype=bool)
                inside[places_of(part.numbers, allowed)] = True
                score[~inside] = 0.0
            candidates = np.flatnonzero(score > 0.0)
            if len(candidates) > top_k:
                cut = np.partition(score[candidates], len(candidates) - top_k)[len(candidates) - top_k]
                candidates = candidates[score[candidates] >= cut]
            best += zip(part.numbers[candidates].tolist(), score[candidates].tolist(), strict=True)
        best.sort(key=lambda entry: (-entry[1], entry[0]))
        return best[:top_k]

    def most(self, words: Sequence[int]) -> float:
        """Return the score that no chunk reaches, however often it holds the words; words that occur nowhere do not count."""
        idf = self._information(words)
        return (K1 + 1.0) * sum(idf.get(word, 0.0) for word in words)

    def _information(self, words: Sequence[int]) -> dict[int, float]:
        """Return the inverse document frequency of those words that occur, counted once each."""
        import numpy as np

        known = self._known_information
        for word in words:
            if word not in known:
                total = 0
                for part, alive in zip(self.parts, self.alive, strict=True):
                    rows = part.rows[part.of(word)]
                    total += len(rows) if alive is None else int(alive[rows].sum())
                if total:
                    known[word] = max(float(np.log((self.num_chunks - total + 0.5) / (total + 0.5))), LEAST_IDF)
        return {word: known[word] for word in words if word in known}

    def num_with_all(self, words: Sequence[int], limit: int) -> int:
        """Return in how many chunks all the words occur together, counted up to a limit."""
        import numpy as np

        total = 0
        for part, alive in zip(self.parts, self.alive, strict=True):
            rows = [part.rows[part.of(word)] for word in dict.fromkeys(words)]
            rows.sort(key=len)
            together = rows[0] if rows else np.zeros(0, dtype=np.int32)
            for others in rows[1:]:
                together = np.intersect1d(together, others, assume_unique=True)
            total += len(together) if alive is None else int(alive[together].sum())
        return min(total, limit)


class PostingsCache:
    """Keeps the postings of one catalogue up to date.

    Args:
        folder: Where a large index is kept between processes; None: nowhere.
    """

    def __init__(self, folder: Path | None) -> None:
        self._derived = Derived(folder / "words" if folder else None, read_part, merged, lambda arrays: Part(**arrays))
        self._current: Postings | None = None

    def at(self, connection: Connection) -> Postings:
        """Return the postings of the state that the connection sees."""
        values = settings(connection)
        stamp = f"{values.get('base_id', '')}-{values.get('words_epoch', '')}"
        state = self._derived.at(connection, int(values.get("generation", 0)), stamp)
        current = self._current
        if current is None or current.state is not state:
            self._current = current = Postings(state)
        return current


def read_part(connection: Connection, after: int) -> Part:
    """Return the postings of the chunks with a number above `after`, read from the catalogue."""
    parts: list[Part] = []
    statement = text("SELECT number, words FROM chunk_words WHERE number > :after ORDER BY number LIMIT :limit")
    while True:
        rows = connection.execute(statement, {"after": after, "limit": READ_ROWS}).all()
        if not rows:
            break
        after = int(rows[-1][0])
        parts.append(part_of([(int(row[0]), bytes(row[1])) for row in rows]))
    return merged(tuple(parts), tuple(None for _ in parts))


def part_of(rows: Sequence[tuple[int, bytes]]) -> Part:
    """Return the postings of chunks given as number, ascending, and stored words."""
    import numpy as np

    record = record_type()
    numbers = np.fromiter((row[0] for row in rows), dtype=np.int64, count=len(rows))
    entries = np.frombuffer(b"".join(row[1] for row in rows), dtype=record)
    sizes = np.fromiter((len(row[1]) // record.itemsize for row in rows), dtype=np.int64, count=len(rows))
    owners = np.repeat(np.arange(len(rows), dtype=np.int32), sizes)
    lengths = np.bincount(owners, weights=entries["total"], minlength=len(rows)).astype(np.int32)
    return _inverted(numbers, lengths, owners, entries["word"], entries["counts"])


def merged(parts: Sequence[Part], alive: Sequence[NDArray[np.bool_] | None]) -> Part:
    """Return one part with what is alive of several, whose numbers ascend from part to part."""
    import numpy as np

    if len(parts) == 1 and alive[0] is None:
        return parts[0]
    numbers, lengths, owners, words, counts = [], [], [], [], []
    offset = 0
    for part, there in zip(parts, alive, strict=True):
        keep = np.ones(len(part.numbers), dtype=bool) if there is None else there
        place = (np.cumsum(keep) - 1 + offset).astype(np.int32)
        chosen = keep[part.rows]
        numbers.append(part.numbers[keep])
        lengths.append(part.lengths[keep])
        owners.append(place[part.rows[chosen]])
        words.append(np.repeat(part.words, np.diff(part.starts))[chosen])
        counts.append(part.counts[chosen])
        offset += int(keep.sum())
    if not parts:
        empty = np.zeros(0, dtype=np.int64)
        return Part(
            empty,
            empty.astype(np.int32),
            empty.astype(np.uint64),
            np.zeros(1, dtype=np.int64),
            empty.astype(np.int32),
            np.zeros((0, 3), np.uint8),
        )
    return _inverted(
        np.concatenate(numbers), np.concatenate(lengths), np.concatenate(owners), np.concatenate(words), np.concatenate(counts)
    )


def _inverted(
    numbers: NDArray[np.int64],
    lengths: NDArray[np.int32],
    owners: NDArray[np.int32],
    words: NDArray[np.uint64],
    counts: NDArray[np.uint8],
) -> Part:
    """Return the part of these postings, which come ordered by owner within each word's run or by owner altogether."""
    import numpy as np

    order = np.argsort(words, kind="stable")
    ordered = words[order]
    firsts = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1]))) if len(ordered) else np.zeros(0, dtype=np.int64)
    starts = np.append(firsts, len(ordered)).astype(np.int64)
    return Part(numbers, lengths, ordered[firsts], starts, owners[order], np.ascontiguousarray(counts[order]))


def record_type() -> np.dtype[np.void]:
    """Return the layout of one entry in a chunk's `words`: key of the word, occurrences per column (at most 255), occurrences in all (exact)."""
    import numpy as np

    return np.dtype([("word", "<u8"), ("counts", "u1", (3,)), ("total", "<u4")], align=False)
