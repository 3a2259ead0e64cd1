"""Any sentence-transformers model by folder or name. Nothing is downloaded: the model must be on this machine."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kb.embedders.base import EmbedderIdentity
from kb.errors import StoreError

if TYPE_CHECKING:
    from kb.embedders.base import Vectors

BATCH_TEXTS = 32


def load(model: str, device: str) -> Any:  # Any: sentence_transformers.SentenceTransformer, imported only when needed
    """Return the model, offline.

    Raises:
        StoreError: sentence-transformers or the model is not on this machine.
    """
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        from sentence_transformers import SentenceTransformer
        from transformers.utils import logging as transformers_logging
    except ImportError as err:
        raise StoreError("this embedder needs sentence-transformers; run: pip install sentence-transformers") from err
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # transformers has partial types
    try:
        return SentenceTransformer(model, device=device)
    except (OSError, ValueError) as err:
        raise StoreError(
            f"cannot load the sentence-transformers model {model!r} offline: {err}; give the folder of a downloaded model"
        ) from err


def encode(model: Any, texts: Sequence[str]) -> Vectors:  # Any: see load
    """Return one unit vector per text, in order."""
    import numpy as np

    vectors: Vectors = model.encode(list(texts), batch_size=BATCH_TEXTS, normalize_embeddings=True, show_progress_bar=False)
    return np.asarray(vectors, dtype=np.float32)


def weights_hash(folder: Path) -> str:
    """Return the SHA-256 over the weight files of a model folder, by name.

    Raises:
        StoreError: The folder holds none.
    """
    files = sorted(path for path in folder.rglob("*") if path.suffix in (".safetensors", ".bin") and path.is_file())
    if not files:
        raise StoreError(f"no weights (*.safetensors, *.bin) under {str(folder)!r}")
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


class SentenceTransformerEmbedder:
    """A sentence-transformers model with its own prompts, pooling and length.

    Args:
        model: Folder or name of a model on this machine.
        device: Where it runs, for example `cpu` or `cuda`.
    """

    def __init__(self, model: str, device: str = "cpu") -> None:
        if not model:
            raise StoreError("name a model: sentence-transformers:FOLDER")
        self._name = model
        self._device = device

    @cached_property
    def _model(self) -> Any:  # Any: see load
        return load(self._name, self._device)

    @cached_property
    def identity(self) -> EmbedderIdentity:
        """What the index records. Loads the model."""
        folder = Path(self._name)
        digest = weights_hash(folder) if folder.is_dir() else self._state_hash()
        prompts = dict(getattr(self._model, "prompts", None) or {})
        prefix = "|".join((prompts.get("document", ""), prompts.get("query", "")))
        measure = getattr(self._model, "get_embedding_dimension", None) or self._model.get_sentence_embedding_dimension  # renamed in 6.x
        dimension = int(measure())
        return EmbedderIdentity(folder.name, digest, dimension, "" if prefix == "|" else prefix)

    @property
    def max_tokens(self) -> int:
        """Longest input in tokens."""
        return int(self._model.max_seq_length or 512)

    def embed_documents(self, texts: Sequence[str]) -> Vectors:
        """Return one unit vector per text, in order."""
        return self._prompted(list(texts), "document")

    def embed_query(self, text: str) -> Vectors:
        """Return the unit vector of a query, shape (dimension,)."""
        vector: Vectors = self._prompted([text], "query")[0]
        return vector

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Return the number of tokens of each text, special tokens excluded."""
        return [len(ids) for ids in self._model.tokenizer(list(texts), add_special_tokens=False)["input_ids"]]

    def _prompted(self, texts: list[str], role: str) -> Vectors:
        import numpy as np

        prompt = (getattr(self._model, "prompts", None) or {}).get(role, "")
        vectors = self._model.encode(
            texts, prompt=prompt or None, batch_size=BATCH_TEXTS, normalize_embeddings=True, show_progress_bar=False
        )
        return np.asarray(vectors, dtype=np.float32)

    def _state_hash(self) -> str:
        digest = hashlib.sha256()
        for name, tensor in sorted(self._model.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().float().numpy().tobytes())
        return digest.hexdigest()
