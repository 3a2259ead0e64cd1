"""The full-text index: words over heading path, text and the parts of identifiers, in a table that SQLite and PostgreSQL share, scored by BM25.

The table `chunk_words` holds the counts of each chunk's words; `kb/postings.py` inverts it in memory. Both databases rank by the same arithmetic.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
import uuid
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, Engine, delete, insert, select, text

from kb.derived import State
from kb.porter import stem
from kb.postings import Postings, PostingsCache, part_of, record_type
from kb.schema import chunk_words
from kb.words import identifier_parts, tokens

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

COUNT_LIMIT = 2000
"""Beyond this a word is common, however common."""

WEIGHTS = (1.0, 1.0, 0.5)
"""Of the columns path, body and parts."""

SCOPES_KEPT = 32
MOST_COUNTED = 255

_WORD = re.compile(r"\w+", re.UNICODE)
_CACHES: WeakKeyDictionary[Engine, PostingsCache] = WeakKeyDictionary()
_SCOPES: WeakKeyDictionary[Engine, dict[tuple[object, ...], NDArray[np.int64]]] = WeakKeyDictionary()


def attach(engine: Engine, folder: Path | None) -> None:
    """Keep the index of this catalogue in memory, a large one also in a folder."""
    _CACHES[engine] = PostingsCache(folder)


def index_words(value: str) -> list[str]:
    """Return the words of a text as the index has them: lower case, without diacritics, stemmed."""
    return [_folded(word) for word in _WORD.findall(value)]


@lru_cache(maxsize=1 << 18)
def word_key(word: str) -> int:
    """Return the key of an index word: 64 bits of its BLAKE2b hash."""
    return int.from_bytes(hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def add(connection: Connection, rows: Iterable[tuple[int, str, str]]) -> None:
    """Index chunks: number, heading path, text with its context."""
    values = [{"number": number, "words": _record(path, body)} for number, path, body in rows]
    if values:
        connection.execute(insert(chunk_words), values)


def remove(connection: Connection, numbers: Sequence[int]) -> None:
    """Take chunks out of the index."""
    for begin in range(0, len(numbers), 500):
        connection.execute(delete(chunk_words).where(chunk_words.c.number.in_(numbers[begin : begin + 500])))


def search(connection: Connection, terms: Sequence[str], top_k: int, scope: str, parameters: dict[str, object]) -> list[tuple[int, float]]:
    """Return the best chunks as (number, BM25 score), best first; higher is better.

    Args:
        scope: SQL that selects the allowed chunk numbers, or empty for all.
        parameters: Its bound values.
    """
    words = _keys(terms)
    if not words:
        return []
    postings = _cache(connection).at(connection)
    allowed = allowed_numbers(connection, scope, parameters, postings.state.generation) if scope else None
    return postings.search(words, WEIGHTS, top_k, allowed)


def most(connection: Connection, terms: Sequence[str]) -> float:
    """Return the BM25 score that no chunk reaches for these terms; never 0, so that a score can be divided by it."""
    return _cache(connection).at(connection).most(_keys(terms)) or 1.0


class TextIndex:
    """The same index over texts that are in no catalogue.

    Args:
        texts: Heading path and text of each.
    """

    def __init__(self, texts: Sequence[tuple[str, str]]) -> None:
        part = part_of([(number, _record(path, body)) for number, (path, body) in enumerate(texts)])
        self._postings = Postings(State(0, "", (part,), (None,), len(texts)))

    def search(self, terms: Sequence[str], top_k: int) -> list[tuple[int, float]]:
        """Return the best texts as (position, BM25 score), best first."""
        return self._postings.search(_keys(terms), WEIGHTS, top_k, None)

    def most(self, terms: Sequence[str]) -> float:
        """Return the score that no text reaches for these terms; never 0."""
        return self._postings.most(_keys(terms)) or 1.0


def allowed_numbers(connection: Connection, scope: str, parameters: dict[str, object], generation: int) -> NDArray[np.int64]:
    """Return the chunk numbers that a scope selects, ascending; remembered until the catalogue changes."""
    import numpy as np

    kept = _SCOPES.setdefault(connection.engine, {})
    key = (generation, scope, *sorted((name, str(value)) for name, value in parameters.items()))
    found = kept.get(key)
    if found is None:
        found = np.fromiter(connection.execute(text(scope), parameters).scalars(), dtype=np.int64)
        found.sort()
        if len(kept) >= SCOPES_KEPT or any(other[0] != generation for other in list(kept)):
            kept.clear()
        kept[key] = found
    return found


def num_chunks(connection: Connection) -> int:
    """Return the number of indexed chunks, counted once a generation."""
    return _cache(connection).at(connection).num_chunks


def num_matching(connection: Connection, word: str) -> int:
    """Return the number of chunks that hold the word, or all tokens of it, word forms folded; counted up to `COUNT_LIMIT`."""
    keys = [word_key(part) for token in tokens(word) for part in index_words(token)]
    return _cache(connection).at(connection).num_with_all(keys, COUNT_LIMIT) if keys else 0


def numbers(connection: Connection) -> set[int]:
    """Return the numbers of all indexed chunks."""
    return {int(number) for number in connection.execute(select(chunk_words.c.number)).scalars()}


def is_intact(connection: Connection, rows: Iterable[tuple[int, str, str]]) -> bool:
    """Return whether the index holds for each of these chunks (number, heading path, text with its context) what it should."""
    stored = {int(row[0]): bytes(row[1]) for row in connection.execute(select(chunk_words))}
    return all(stored.get(number, b"") == _record(path, body) for number, path, body in rows if number in stored)


def clear(connection: Connection) -> None:
    """Empty the index; what other processes keep of it in memory is out of date from now on."""
    connection.execute(delete(chunk_words))
    connection.execute(text("DELETE FROM meta WHERE key = 'words_epoch'"))
    connection.execute(text("INSERT INTO meta(key, value) VALUES ('words_epoch', :value)"), {"value": uuid.uuid4().hex[:8]})


def _keys(terms: Sequence[str]) -> list[int]:
    return [word_key(word) for term in terms for word in index_words(term)]


def _cache(connection: Connection) -> PostingsCache:
    if connection.engine not in _CACHES:
        attach(connection.engine, None)
    return _CACHES[connection.engine]


def _record(path: str, body: str) -> bytes:
    import numpy as np

    columns = [Counter(index_words(part)) for part in (path, body, identifier_parts(f"{path}\n{body}"))]
    words = sorted(set().union(*columns))
    entries = np.zeros(len(words), dtype=record_type())
    if words:
        counts = np.array([[column[word] for column in columns] for word in words], dtype=np.int64)
        entries["word"] = [word_key(word) for word in words]
        entries["counts"] = np.minimum(counts, MOST_COUNTED)
        entries["total"] = counts.sum(axis=1)
    return entries.tobytes()


@lru_cache(maxsize=1 << 18)
def _folded(word: str) -> str:
    if not word.isascii():
        decomposed = unicodedata.normalize("NFD", word.lower())
        word = "".join(letter for letter in decomposed if not unicodedata.combining(letter))
    return stem(word.lower())
