"""The protocol of embedders and the identity that an index keeps of the one that built it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Vectors = NDArray[np.float32]
    """(texts, dimension), float32, each row of length 1."""


@dataclass(frozen=True)
class EmbedderIdentity:
    """What makes two embedders interchangeable: vectors may be compared only if all of it is equal."""

    name: str
    """Name of the model, for example `all-MiniLM-L6-v2`; the same for every way of running the same weights."""
    weight_hash: str
    """SHA-256 of the weights, hexadecimal; `none` for an embedder without weights."""
    dimension: int
    prefix: str = ""
    """What is put before documents and queries, as `document|query`; empty for none."""


class Embedder(Protocol):
    """Texts to unit vectors. Construction is cheap; weights are loaded by the first call that needs them and kept."""

    @property
    def max_tokens(self) -> int:
        """Longest input in tokens, special tokens included; the rest of a text is not seen."""

    @property
    def identity(self) -> EmbedderIdentity:
        """What the index records."""

    def embed_documents(self, texts: Sequence[str]) -> Vectors:
        """Return one unit vector per text, in order."""

    def embed_query(self, text: str) -> Vectors:
        """Return the unit vector of a query, shape (dimension,)."""

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Return the number of tokens of each text, special tokens excluded."""
