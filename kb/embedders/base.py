"""The protocol of embedders and the identity that an index keeps of the one that built it."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
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


PROBE = "probe:"
"""Begins the `weight_hash` of a model whose weights are out of reach: coordinates of a fixed text's vector, as signed bytes in base64."""
PROBE_TEXT = "Shared memory has 32 banks of 4 bytes each."
PROBE_COORDINATES = 64
PROBE_SIMILARITY = 0.99
"""Two servers of one model round differently; vectors of two models have nothing to do with each other (about 0)."""


def probe_hash(vector: Vectors) -> str:
    """Return what stands for the weights of a model out of reach, from its vector of `PROBE_TEXT`."""
    import numpy as np

    part = vector[:PROBE_COORDINATES]
    scaled = np.round(part / max(float(np.abs(part).max()), 1e-12) * 127).astype(np.int8)
    return PROBE + base64.b64encode(scaled.tobytes()).decode()


def same_weights(one: str, other: str) -> bool:
    """Return whether two weight hashes stand for the same weights."""
    if one == other:
        return True
    if not (one.startswith(PROBE) and other.startswith(PROBE)):
        return False
    import numpy as np

    rows = [np.frombuffer(base64.b64decode(item.removeprefix(PROBE)), dtype=np.int8).astype(np.float64) for item in (one, other)]
    if rows[0].shape != rows[1].shape:
        return False
    return float(rows[0] @ rows[1]) >= PROBE_SIMILARITY * float(np.linalg.norm(rows[0]) * np.linalg.norm(rows[1]))


def differences(recorded: Mapping[str, str], identity: EmbedderIdentity) -> list[str]:
    """Return in what an identity differs from the recorded one (`name`, `hash`, `dimension`, `prefix`), as phrases; empty: same vectors."""
    offered = {"name": identity.name, "dimension": str(identity.dimension), "prefix": identity.prefix}
    found = [key for key in offered if offered[key] != recorded.get(key, "")]
    if not same_weights(recorded.get("hash", ""), identity.weight_hash):
        found.append("hash")
    offered["hash"] = identity.weight_hash
    return [f"{key} {recorded.get(key, '')!r} there, {offered[key]!r} here" for key in found]


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
