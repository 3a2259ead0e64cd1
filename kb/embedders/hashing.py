"""Feature hashing of words and word pairs: an embedder without weights, for hosts that have no model and for tests.

It knows no synonyms: two texts are near only if they share words. Source: Weinberger et al. 2009, Feature Hashing for Large Scale Multitask Learning.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

from kb.embedders.base import EmbedderIdentity
from kb.words import query_terms, tokens

if TYPE_CHECKING:
    from kb.embedders.base import Vectors


class HashingEmbedder:
    """Words hashed to signed coordinates.

    Args:
        dimension: Length of the vectors.
    """

    max_tokens = 256

    def __init__(self, dimension: int = 256) -> None:
        if dimension < 8:
            raise ValueError(f"dimension must be at least 8, got {dimension!r}")
        self._dimension = dimension

    @property
    def identity(self) -> EmbedderIdentity:
        """What the index records."""
        return EmbedderIdentity("hashing", "none", self._dimension)

    def embed_documents(self, texts: Sequence[str]) -> Vectors:
        """Return one unit vector per text, in order."""
        import numpy as np

        vectors = np.zeros((len(texts), self._dimension), dtype=np.float32)
        for row, text in enumerate(texts):
            terms = query_terms(text)
            for feature in terms + [f"{first} {second}" for first, second in itertools.pairwise(terms)]:
                digest = int.from_bytes(hashlib.blake2b(feature.encode(), digest_size=8).digest(), "little")
                vectors[row, digest % self._dimension] += 1.0 if digest >> 63 else -1.0
            length = float(np.linalg.norm(vectors[row]))
            if length > 0:
                vectors[row] /= length
            else:
                vectors[row, 0] = 1.0
        return vectors

    def embed_query(self, text: str) -> Vectors:
        """Return the unit vector of a query, shape (dimension,)."""
        vector: Vectors = self.embed_documents([text])[0]
        return vector

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Return the number of words of each text."""
        return [len(tokens(text)) for text in texts]
