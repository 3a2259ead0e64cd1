"""Near-duplicates: texts that say the same but for a few words. Numbers and names must agree: pages that contradict each other are never folded."""

from __future__ import annotations

import re

from kb.words import tokens

WIDTH = 4
"""Words of a shingle."""
LEAST_SHINGLES = 12
"""A shorter text is too little evidence."""
LEAST_SHARED = 0.85
"""Part of the shorter text's shingles that the other one must hold."""
LEAST_LENGTH = 0.6
"""Length of the shorter text relative to the longer one."""
_FACT = re.compile(r"[\w.+-]*(?:\d|_)[\w.+-]*")


class Shingles:
    """A text prepared for comparing."""

    def __init__(self, text: str) -> None:
        words = tokens(text)
        self._shingles = {hash(tuple(words[index : index + WIDTH])) for index in range(max(0, len(words) - WIDTH + 1))}
        self._num_words = len(words)
        self._facts = {fact.strip(".+-").lower() for fact in _FACT.findall(text)}

    def repeats(self, other: Shingles) -> bool:
        """Return whether the texts are near-duplicates of about the same length with the same numbers and identifiers."""
        mine, theirs = len(self._shingles), len(other._shingles)
        least = min(mine, theirs)
        lengths = self._num_words, other._num_words
        if least < LEAST_SHINGLES or min(lengths) < LEAST_LENGTH * max(lengths) or self._facts != other._facts:
            return False
        return len(self._shingles & other._shingles) >= LEAST_SHARED * least
