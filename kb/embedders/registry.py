"""Names of embedders. `sentence-transformers:MODEL` takes the folder or name of a model after the colon, `openai-compatible:MODEL@URL` an endpoint."""

from __future__ import annotations

from collections.abc import Callable

from kb.embedders.base import Embedder
from kb.errors import UnknownNameError


def _minilm(argument: str) -> Embedder:
    from kb.embedders.minilm import MiniLmEmbedder

    return MiniLmEmbedder()


def _minilm_int8(argument: str) -> Embedder:
    from kb.embedders.minilm_int8 import MiniLmInt8Embedder

    return MiniLmInt8Embedder()


def _openai_compatible(argument: str) -> Embedder:
    from kb.embedders.openai_compatible import Endpoint, OpenAiCompatibleEmbedder

    return OpenAiCompatibleEmbedder(Endpoint.parse(argument))


def _sentence_transformers(argument: str) -> Embedder:
    from kb.embedders.sentence_transformer import SentenceTransformerEmbedder

    return SentenceTransformerEmbedder(argument)


def _hashing(argument: str) -> Embedder:
    from kb.embedders.hashing import HashingEmbedder

    return HashingEmbedder(int(argument)) if argument else HashingEmbedder()


EMBEDDERS: dict[str, Callable[[str], Embedder]] = {
    "hashing": _hashing,
    "minilm": _minilm,
    "minilm-int8": _minilm_int8,
    "openai-compatible": _openai_compatible,
    "sentence-transformers": _sentence_transformers,
}


def make_embedder(spec: str) -> Embedder:
    """Return the embedder named `name` or `name:argument`.

    Raises:
        UnknownNameError: No such name.
        StoreError: What it needs is not installed.
        ValueError: What stands after the colon cannot be read.
    """
    name, _, argument = spec.partition(":")
    if name not in EMBEDDERS:
        raise UnknownNameError(
            f"unknown embedder {spec!r}; known: {', '.join(sorted(EMBEDDERS))} (openai-compatible:MODEL@URL, sentence-transformers:FOLDER)"
        )
    return EMBEDDERS[name](argument)
