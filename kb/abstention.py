"""Whether the base answers a query at all, judged by evidence rather than by a score.

A score threshold cannot do this: an unanswerable question finds text as near as an answerable one does. What counts instead: the query names something
that the base has never heard of, or none of its words occur anywhere.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection

from kb import fulltext
from kb.retrieval import Candidate
from kb.types import Hit
from kb.words import STOP_WORDS, looks_like_name, query_terms, split_identifier, tokens, words

WEAK_SIMILARITY = 0.35
"""Below this cosine similarity MiniLM's nearest text is about something else (random pairs of English sentences: 0.0 to 0.2)."""


def judge(connection: Connection, query: str, candidates: Sequence[Candidate], hits: Sequence[Hit]) -> tuple[bool, str]:
    """Return whether to abstain, and why in one sentence."""
    if not hits:
        return True, "the base holds no document within these filters" if not candidates else "nothing found"
    unknown = unknown_names(connection, query)
    if unknown:
        return True, f"the base does not know {', '.join(repr(name) for name in unknown)}"
    terms = query_terms(query)
    known = fulltext.known_words(connection, terms)
    content = [term for term in terms if term not in STOP_WORDS]
    best = max((candidate.similarity for candidate in candidates[:20] if candidate.similarity is not None), default=None)
    if not known & set(content) and (best is None or best < WEAK_SIMILARITY):
        return True, "no word of the query occurs in the base and nothing close to its meaning does"
    return False, ""


def unknown_names(connection: Connection, query: str) -> list[str]:
    """Return the names in a query (identifiers, product names, model numbers) that occur nowhere in the base, whole or in their parts."""
    unknown = []
    for position, word in enumerate(words(query)):
        if not _is_name(word, position):
            continue
        pieces = tokens(word)
        parts = [part for piece in pieces for part in (split_identifier(piece) or [piece])]
        if fulltext.num_matching(connection, word):
            continue
        if (
            all(part.isdigit() or fulltext.known_words(connection, [part]) for part in parts)
            and len(parts) > 1
            and not any(c.isdigit() for c in word)
        ):
            continue
        unknown.append(word)
    return list(dict.fromkeys(unknown))


def _is_name(word: str, position: int) -> bool:
    if len(word) < 3 or word.replace(".", "").replace("-", "").isdigit():
        return False
    if looks_like_name(word):
        return True
    return position > 0 and word[0].isupper() and word[1:].islower() and word.lower() not in STOP_WORDS
