"""Taking a question apart: clauses with their own question word, comparisons, and what several named things have in common."""

from __future__ import annotations

import re

from kb.words import STOP_WORDS, looks_like_name, query_terms, words

_WH = r"(?:what|which|how|why|when|where|who|whose)"
_AUXILIARY = r"(?:is|are|does|do|did|can|could|should|must|may|will)"
_PREPOSITION = r"(?:in|at|by|for|with|on|to|from|of|under|over|below|above|into|after|before|against)"

_CLAUSE = re.compile(
    rf"[?;\n]+|,?\s+(?:and|but|or|as well as|and then|while)\s+(?=(?:{_PREPOSITION}\s+)?{_WH}\b|{_AUXILIARY}\s+\w)|,\s+(?={_WH}\b)|\.\s+(?=[A-Z])",
    re.IGNORECASE,
)
_COMPARISON = (
    re.compile(
        r"\b(?:difference|differences|trade-?offs?|choice|choose|distinction)\b(?P<topic>.*?)\bbetween\s+(?P<a>.+?)\s+and\s+(?P<b>.+)$",
        re.I,
    ),
    re.compile(r"^(?P<topic>.*?)\bcompare[sd]?\s+(?P<a>.+?)\s+(?:with|to|and|against|versus|vs\.?)\s+(?P<b>.+)$", re.I),
    re.compile(r"^(?P<topic>.*?)(?P<a>\b[\w.+:-]+(?:\s[\w.+:-]+)?)\s+(?:versus|vs\.?|rather than|instead of)\s+(?P<b>.+)$", re.I),
    re.compile(r"^(?P<topic>.*?)\bboth\s+(?P<a>.+?)\s+and\s+(?P<b>.+)$", re.I),
)
LEAST_WORDS = 2
"""A part with fewer content words of its own is joined to the one before."""


def decompose(question: str) -> list[str]:
    """Return the questions that a question consists of, in order; a part without content words of its own is joined to the one before."""
    parts: list[str] = []
    for piece in _CLAUSE.split(question):
        cleaned = piece.strip(" ,.")
        if not cleaned:
            continue
        if parts and len(content_words(cleaned)) < LEAST_WORDS and not names(cleaned):
            parts[-1] = f"{parts[-1]}, {cleaned}"
        else:
            parts.append(cleaned)
    return parts


def sides(part: str) -> list[str]:
    """Return the two sides of a comparison, each with what is asked about them; empty if a part compares nothing."""
    for pattern in _COMPARISON:
        match = pattern.search(part)
        if match:
            topic = match.group("topic").strip(" ,:")
            found = [match.group("a").strip(" ,?."), match.group("b").strip(" ,?.")]
            if all(content_words(side) for side in found):
                return [f"{topic} {side}".strip() for side in found]
    return []


def content_words(text: str) -> list[str]:
    """Return the words of a text that carry meaning, identifiers whole and split."""
    return [term for term in query_terms(text) if term not in STOP_WORDS]


def names(text: str) -> list[str]:
    """Return the identifiers, product names and model numbers of a text, in order, each once."""
    return list(dict.fromkeys(word for word in words(text) if looks_like_name(word)))


def subject_words(text: str) -> list[str]:
    """Return what may name a collection of documents: the words of a text that begin with or hold a capital or a digit, in lower case."""
    found = words(text)
    named = [word for word in found if looks_like_name(word) or word[:1].isupper()]
    return list(dict.fromkeys(token for word in named for token in query_terms(word) if token not in STOP_WORDS))


def phrases(text: str, lengths: tuple[int, ...] = (4,)) -> list[str]:
    """Return a text, its runs of content words and its windows of some lengths: what may be a description of one concept."""
    found = words(text)
    result = [text.strip()]
    run: list[str] = []
    for word in [*found, ""]:
        if not word or word.lower() in STOP_WORDS:
            if len(run) > 1:
                result.append(" ".join(run))
            run = []
        else:
            run.append(word)
    for length in lengths:
        result += [" ".join(found[begin : begin + length]) for begin in range(max(0, len(found) - length + 1))]
    return list(dict.fromkeys(phrase for phrase in result if phrase))
