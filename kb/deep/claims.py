"""Claims and their proof: sentences quoted from the chunk they cite, and the check that they stand there."""

from __future__ import annotations

import re
from collections.abc import Mapping

from kb.deep.decompose import content_words
from kb.words import query_terms, stem

_SENTENCE = re.compile(r"(?<=[.!?])\s+|\n\s*\n|\n(?=\s*[-*|])")

CLAIM_CHARACTERS = 420


def quote(passage: str, part: str) -> str:
    """Return the sentences of a passage that answer a part, verbatim, in their order, within a length for reading."""
    sentences = [sentence.strip() for sentence in _SENTENCE.split(passage) if sentence.strip()]
    terms = {stem(term) for term in content_words(part)}
    values = [len(terms & {stem(term) for term in query_terms(sentence)}) for sentence in sentences]
    chosen: set[int] = set()
    length = 0
    for index in sorted(range(len(sentences)), key=lambda position: (-values[position], position)):
        if chosen and (length + len(sentences[index]) > CLAIM_CHARACTERS or values[index] == 0):
            continue
        chosen.add(index)
        length += len(sentences[index])
    return " ".join(sentences[index][: 2 * CLAIM_CHARACTERS] for index in sorted(chosen))


def is_supported(claim: str, passage: str) -> bool:
    """Return whether every sentence of a claim stands in the passage, white space aside."""
    whole = " ".join(passage.split())
    return bool(claim.strip()) and all(" ".join(sentence.split()) in whole for sentence in _SENTENCE.split(claim) if sentence.strip())


def information(terms: Mapping[str, float], passage: str) -> float:
    """Return the share of the weight of some terms that a passage holds, by their stems, 0 to 1."""
    total = sum(terms.values())
    if not total:
        return 0.0
    there = {stem(term) for term in query_terms(passage)}
    return sum(weight for term, weight in terms.items() if stem(term) in there) / total
