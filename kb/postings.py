"""The inverted index in memory: which chunk holds which word how often, in arrays that a file can back, scored by BM25.

It is derived from the table `chunk_words` and follows it: what was added since is read, what is gone is masked out. A large one is kept in a file beside the
base, so that the next process maps it instead of building it. BM25 as in SQLite's FTS5 (https://www.sqlite.org/fts5.html, section 5.1.1: k1 = 1.2, b = 0.75,
column weights on the counts, length over all columns).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, text

from kb.arrays import load_arrays, save_arrays

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

log = logging.getLogger(__name__)

K1, B = 1.2, 0.75
LEAST_IDF = 1e-6
KEPT_CHUNKS = 5000
"""From so many chunks on, the arrays are kept in a file."""
MERGE_SHARE = 0.1
"""Parts are merged, and the file is written anew, when this share of the chunks lies outside the first part or is gone."""
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


@dataclass(frozen=True)
class Postings:
    """Everything that is known at one generation of the catalogue."""

    generation: int
    epoch: str
    parts: tuple[Part, ...]
    alive: tuple[NDArray[np.bool_] | None, ...]
    """Per part: which rows still exist; None: all."""
    norms: tuple[NDArray[np.float64], ...]
    """Per part and row: the length's share of BM25's denominator."""
    num_chunks: int

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

        found: dict[int, list[tuple[slice, NDArray[np.bool_] | None, NDArray[np.int32]]]] = {}
        column_weights = np.asarray(weights, dtype=np.float64)
        scores = [np.zeros(len(part.numbers), dtype=np.float64) for part in self.parts]
        idf: dict[int, float] = {}
        for word in dict.fromkeys(words):
            places = []
            total = 0
            for part, alive in zip(self.parts, self.alive, strict=True):
                place = part.of(word)
                rows = part.rows[place]
                there = None if alive is None else alive[rows]
                total += len(rows) if there is None else int(there.sum())
                places.append((place, there, rows))
            if total:
                found[word] = places
                idf[word] = max(float(np.log((self.num_chunks - total + 0.5) / (total + 0.5))), LEAST_IDF)
        for word in words:
            for part, norm, score, (place, _, rows) in zip(self.parts, self.norms, scores, found.get(word, ()), strict=bool(word in found)):
                if len(rows):
                    frequency = part.counts[place] @ column_weights
                    score[rows] += idf[word] * (frequency * (K1 + 1.0)) / (frequency + norm[rows])
        best: list[tuple[int, float]] = []
        for part, alive, score in zip(self.parts, self.alive, scores, strict=True):
            if alive is not None:
                score[~alive] = 0.0
            if allowed is not None:
                within = np.searchsorted(part.numbers, allowed)
                within = within[within < len(part.numbers)]
                inside = np.zeros(len(part.numbers), dtype=bool)
                inside[within] = np.isin(part.numbers[within], allowed)
                score[~inside] = 0.0
            candidates = np.flatnonzero(score > 0.0)
            if len(candidates) > top_k:
                cut = np.partition(score[candidates], len(candidates) - top_k)[len(candidates) - top_k]
                candidates = candidates[score[candidates] >= cut]
            best += zip(part.numbers[candidates].tolist(), score[candidates].tolist(), strict=True)
        best.sort(key=lambda entry: (-entry[1], entry[0]))
        return best[:top_k]

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
        self._folder = folder
        self._current: Postings | None = None
        self._guard = threading.Lock()

    def at(self, connection: Connection) -> Postings:
        """Return the postings of the state that the connection sees."""
        values = dict(
            connection.execute(text("SELECT key, value FROM meta WHERE key IN ('generation', 'words_epoch', 'base_id')")).tuples().all()
        )
        generation, epoch = int(values.get("generation", 0)), f"{values.get('base_id', '')}-{values.get('words_epoch', '')}"
        current = self._current
        if current is not None and (current.generation, current.epoch) == (generation, epoch):
            return current
        with self._guard:
            current = self._current
            if current is not None and (current.generation, current.epoch) == (generation, epoch):
                return current
            fresh = self._follow(connection, current if current and current.epoch == epoch else self._kept(epoch), generation, epoch)
            if current is None or current.epoch != epoch or fresh.generation >= current.generation:
                self._current = fresh
            return fresh

    def _follow(self, connection: Connection, known: Postings | None, generation: int, epoch: str) -> Postings:
        import numpy as np

        parts = known.parts if known else ()
        last = max((int(part.numbers[-1]) for part in parts if len(part.numbers)), default=0)
        fresh = read_part(connection, last)
        if len(fresh.numbers):
            parts = (*parts, fresh)
        there = int(connection.execute(text("SELECT count(*) FROM chunks")).scalar_one())
        alive: tuple[NDArray[np.bool_] | None, ...] = tuple(None for _ in parts)
        if there != sum(len(part.numbers) for part in parts):
            numbers = np.fromiter(connection.execute(text("SELECT number FROM chunks")).scalars(), dtype=np.int64)
            alive = tuple(np.isin(part.numbers, numbers, assume_unique=True) for part in parts)
        total = sum(len(part.numbers) for part in parts)
        first = len(parts[0].numbers) if parts else 0
        if (len(parts) > 1 and total - first > MERGE_SHARE * total) or total - there > MERGE_SHARE * total or len(parts) > 8:
            parts = (merged(parts, alive),)
            alive = (None,)
            self._keep(parts[0], epoch)
        elif known is None and parts:
            self._keep(parts[0], epoch)
        return _with_norms(generation, epoch, parts, alive)

    def _kept(self, epoch: str) -> Postings | None:
        if self._folder is None:
            return None
        arrays = load_arrays(self._folder / "words", epoch)
        if arrays is None:
            return None
        part = Part(**arrays)
        return Postings(-1, epoch, (part,), (None,), (), 0)

    def _keep(self, part: Part, epoch: str) -> None:
        if self._folder is not None and len(part.numbers) >= KEPT_CHUNKS:
            save_arrays(self._folder / "words", epoch, dict(part.__dict__))


def _with_norms(generation: int, epoch: str, parts: tuple[Part, ...], alive: tuple[NDArray[np.bool_] | None, ...]) -> Postings:
    num_chunks = sum(len(part.numbers) if there is None else int(there.sum()) for part, there in zip(parts, alive, strict=True))
    tokens = sum(int((part.lengths if there is None else part.lengths[there]).sum()) for part, there in zip(parts, alive, strict=True))
    mean = tokens / num_chunks if num_chunks and tokens else 1.0
    norms = tuple(K1 * (1.0 - B + B * part.lengths / mean) for part in parts)
    return Postings(generation, epoch, parts, alive, norms, num_chunks)


def read_part(connection: Connection, after: int) -> Part:
    """Return the postings of the chunks with a number above `after`, read from the catalogue."""
    import numpy as np

    record = record_type()
    parts: list[Part] = []
    statement = text("SELECT number, words FROM chunk_words WHERE number > :after ORDER BY number LIMIT :limit")
    while True:
        rows = connection.execute(statement, {"after": after, "limit": READ_ROWS}).all()
        if not rows:
            break
        after = int(rows[-1][0])
        numbers = np.fromiter((row[0] for row in rows), dtype=np.int64, count=len(rows))
        entries = np.frombuffer(b"".join(row[1] for row in rows), dtype=record)
        sizes = np.fromiter((len(row[1]) // record.itemsize for row in rows), dtype=np.int64, count=len(rows))
        owners = np.repeat(np.arange(len(rows), dtype=np.int32), sizes)
        lengths = np.bincount(owners, weights=entries["total"], minlength=len(rows)).astype(np.int32)
        parts.append(_inverted(numbers, lengths, owners, entries["word"], entries["counts"]))
    return merged(tuple(parts), tuple(None for _ in parts))


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
