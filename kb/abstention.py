"""Whether the base answers a query at all, judged by evidence rather than by a score.

A score threshold cannot do this: an unanswerable question finds text as near as an answerable one does. What counts instead:

- the query names something that the base has never heard of. A question stands or falls with what it names; a statement (a claim to be checked, a symptom)
  says more than its names, so there most of it has to be unknown;
- it asks for a quantity in a kind of unit (a price, an energy, a temperature) and no passage found holds a number of that kind;
- a large share of what it asks about occurs nowhere in the base while what was found neither covers the rest nor comes near in meaning.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from sqlalchemy import Connection

from kb import fulltext
from kb.retrieval import Candidate
from kb.types import Hit
from kb.words import STOP_WORDS, looks_like_name, query_terms, split_identifier, stem, tokens, words

UNKNOWN_SHARE = 0.3
"""Without at least this share of the query's information in words that the base does not have, there is no ground for abstaining."""
EVIDENCE = 0.38
"""Least coverage + similarity - unknown share / 2. On 30 answerable and 20 unanswerable questions about our own documents, asked for this purpose: the
answerable ones have 0.42 and more, 14 of the unanswerable ones less than 0.38."""
HITS_LOOKED_AT = 5
STATEMENT_SHARE = 0.5
"""A statement is refused for the names it uses only if at least this share of its information is unknown."""
QUANTITY_HITS = 10

_QUESTION = re.compile(
    r"\?|^\W*(?:what|which|who|whose|whom|where|when|why|how|is|are|was|were|do|does|did|can|could|may|should|will|would|has|have)\b", re.I
)
_FINITE = re.compile(r"\b(?:is|are|was|were|does|do|did|has|have|had|can|cannot|may|might|must|will|would)\b", re.I)

_NUMBER = r"\d[\d,.]*\s*"
_QUANTITIES: tuple[tuple[str, re.Pattern[str], re.Pattern[str]], ...] = (
    (
        "a price",
        re.compile(
            r"\bprices?\b|\b(?:dollars?|euros?|USD|EUR)\b|\bcosts?\b.{0,30}\bper (?:hour|month|year)\b|\bhow much (?:does|do) .* cost\b",
            re.I,
        ),
        re.compile(rf"[$€£]\s*\d|{_NUMBER}(?:dollars?|euros?|USD|EUR)\b", re.I),
    ),
    (
        "an energy",
        re.compile(r"\b(?:pico|nano|micro|milli|kilo)?joules?\b|\b[pn]J\b|\bwatt[ -]hours?\b", re.I),
        re.compile(rf"{_NUMBER}(?:[pnµumk]?J|(?:pico|nano|micro|milli|kilo)?joules?|k?Wh)\b"),
    ),
    (
        "a power",
        re.compile(r"\bthermal design power\b|\bTDP\b|\b(?:how many|in) (?:kilo|milli)?watts?\b", re.I),
        re.compile(rf"{_NUMBER}(?:[km]?W|(?:kilo|milli)?watts?)\b"),
    ),
    (
        "a temperature",
        re.compile(r"\bdegrees? (?:celsius|fahrenheit)\b|\b(?:boiling|melting|operating|junction) (?:point|temperature)\b", re.I),
        re.compile(rf"{_NUMBER}(?:°\s*[CF]|degrees?|[CK])\b", re.I),
    ),
    (
        "a time in nanoseconds",
        re.compile(r"\bnanoseconds?\b|\bin ns\b", re.I),
        re.compile(rf"{_NUMBER}(?:ns|nanoseconds?)\b", re.I),
    ),
)
"""What a question may ask for: its name, how the question says so, how a passage states it."""


def judge(connection: Connection, query: str, candidates: Sequence[Candidate], hits: Sequence[Hit]) -> tuple[bool, str]:
    """Return whether to abstain, and why in one sentence."""
    if not hits:
        return True, "the base holds no document within these filters" if not candidates else "nothing found"
    weights, absent = _information(connection, query)
    total = sum(weights.values())
    unknown_share = sum(weights[term] for term in absent) / total if total else 0.0
    unknown = unknown_names(connection, query)
    if unknown and (not is_statement(query) or unknown_share >= STATEMENT_SHARE):
        return True, f"the base does not know {', '.join(repr(name) for name in unknown)}"
    quantity = missing_quantity(query, hits)
    if quantity:
        return True, f"the question asks for {quantity}, and no passage found states one"
    if not total:
        return False, ""
    if unknown_share < UNKNOWN_SHARE:
        return False, ""
    similarity = max((candidate.similarity for candidate in candidates[:20] if candidate.similarity is not None), default=None)
    coverage = max(_coverage(hit, weights) for hit in hits[:HITS_LOOKED_AT]) / total
    if coverage + (similarity if similarity is not None else 0.5) - unknown_share / 2 < EVIDENCE:
        missing = ", ".join(repr(term) for term in absent)
        return True, f"nothing found covers the question; {missing} {'occurs' if len(absent) == 1 else 'occur'} nowhere in the base"
    return False, ""


def is_statement(query: str) -> bool:
    """Return whether a query states something rather than asks: no question mark or question word at its beginning, and a finite verb or a full stop."""
    if _QUESTION.search(query):
        return False
    return query.rstrip().endswith(".") or _FINITE.search(query) is not None


def missing_quantity(query: str, hits: Sequence[Hit]) -> str:
    """Return the kind of quantity that a query asks for and no hit states; empty if there is none such."""
    for name, asked, stated in _QUANTITIES:
        if asked.search(query) and not any(stated.search(f"{hit.context}\n{hit.text}") for hit in hits[:QUANTITY_HITS]):
            return name
    return ""


def support(hit: Hit, part: str) -> float:
    """Return the share of a question's content words, by their stems, that the hit or its heading path holds."""
    terms = [term for term in query_terms(part) if term not in STOP_WORDS]
    if not terms:
        return 0.0
    return _coverage(hit, dict.fromkeys(terms, 1.0)) / len(set(terms))


def _coverage(hit: Hit, weights: dict[str, float]) -> float:
    there = {stem(term) for term in query_terms(f"{' '.join(hit.section_path)}\n{hit.context}\n{hit.text}")}
    return sum(weight for term, weight in weights.items() if stem(term) in there)


def _information(connection: Connection, query: str) -> tuple[dict[str, float], list[str]]:
    """Return the inverse document frequency of each content word of the query, and those that occur nowhere."""
    num_chunks = fulltext.num_chunks(connection)
    weights: dict[str, float] = {}
    absent = []
    for term in query_terms(query)[:64]:
        if term not in STOP_WORDS:
            found = fulltext.num_matching(connection, term)
            weights[term] = math.log(1 + num_chunks / (1 + found))
            if not found:
                absent.append(term)
    return weights, absent


def unknown_names(connection: Connection, query: str) -> list[str]:
    """Return the names in a query (identifiers, product names, model numbers) that occur nowhere in the base, whole or in their parts."""
    unknown = []
    for position, word in enumerate(words(query)):
        if not _is_name(word, position) or fulltext.num_matching(connection, word):
            continue
        parts = [part for piece in tokens(word) for part in (split_identifier(piece) or [piece])]
        is_compound = len(parts) > 1 and not any(character.isdigit() for character in word)
        if is_compound and all(fulltext.num_matching(connection, part) for part in parts):
            continue  # the user's own identifier, made of words that the base knows
        unknown.append(word)
    return list(dict.fromkeys(unknown))


def _is_name(word: str, position: int) -> bool:
    if len(word) < 3 or word.replace(".", "").replace("-", "").isdigit():
        return False
    if looks_like_name(word):
        return True
    return position > 0 and word[0].isupper() and word[1:].islower() and word.lower() not in STOP_WORDS
