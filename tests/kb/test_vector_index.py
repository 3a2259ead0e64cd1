from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from kb.search import Searcher
from kb.store import KnowledgeBase
from kb.types import Document, Filters
from kb.vectors import ChromaStore, collection_name


def unit(*values: float) -> np.ndarray:
    vector = np.array(values, dtype=np.float32)
    return vector / np.linalg.norm(vector)


def test_collections_keep_upsert_delete_and_rank(tmp_path: Path) -> None:
    store = ChromaStore(tmp_path, "t")
    store.upsert("chunks-cpu", ["a", "b", "c"], np.stack([unit(1, 0), unit(1, 1), unit(0, 1)]))
    store.upsert("chunks-cpu", ["a"], np.stack([unit(1, 0.1)]))
    store.delete("chunks-cpu", ["c", "never-there"])
    found = store.nearest("chunks-cpu", unit(1, 0), 5)
    assert [item for item, _ in found] == ["a", "b"]
    assert found[1][1] == pytest.approx(float(unit(1, 0) @ unit(1, 1)), abs=1e-5)
    assert store.ids("chunks-cpu") == {"a", "b"}
    assert store.nearest("chunks-amd", unit(1, 0), 5) == []
    store.drop("chunks-cpu")
    assert store.collections() == ()
    store.close()


def test_index_partitions_by_target_and_level(filled: KnowledgeBase) -> None:
    store = ChromaStore(filled.home / "kb" / "vectors", str(_base_id(filled)))
    names = set(store.collections())
    assert {"chunks-nvidia", "chunks-cuda.sm_90", "chunks-amd", "chunks-generic", "sections-nvidia"} <= names
    assert collection_name("chunks", "cuda:sm_90") in names
    store.close()


def _base_id(base: KnowledgeBase) -> str | None:
    with base.catalogue.read() as connection:
        return base.catalogue.get_meta(connection, "base_id")


@pytest.mark.parametrize("filters", [Filters(), Filters(target="cuda:sm_90"), Filters(source="n"), Filters(target="cpu")])
def test_approximate_leg_ranks_as_the_exact_one(filled: KnowledgeBase, filters: Filters) -> None:
    approximate = Searcher(filled.catalogue, filled.embedder, filled.index, scan_limit=0)
    exact = Searcher(filled.catalogue, filled.embedder, filled.index)
    from kb.retrieval import MODES

    for mode in ("dense", "hybrid"):
        wanted = exact.query("shared memory per block", 10, filters, False, MODES[mode]).hits
        found = approximate.query("shared memory per block", 10, filters, False, MODES[mode]).hits
        assert [hit.chunk_id for hit in found] == [hit.chunk_id for hit in wanted]
        assert [hit.score for hit in found] == pytest.approx([hit.score for hit in wanted], abs=1e-3)


def test_approximate_leg_forgets_removed_documents(filled: KnowledgeBase) -> None:
    from kb.retrieval import MODES

    approximate = Searcher(filled.catalogue, filled.embedder, filled.index, scan_limit=0)
    assert any(hit.source.path == "amd.md" for hit in approximate.query("LDS", 9, Filters(), False, MODES["dense"]).hits)
    with KnowledgeBase.open(filled.home) as other:
        other.remove("amd.md")
    assert not any(hit.source.path == "amd.md" for hit in approximate.query("LDS", 9, Filters(), False, MODES["dense"]).hits)


def test_changed_targets_move_between_collections(base: KnowledgeBase, make_document: Callable[..., Document]) -> None:
    document = make_document("a.md", {"One": "alpha"}, ("nvidia",))
    base.add_document(document)
    base.add_document(dataclasses.replace(document, targets=("amd", "cpu")))
    assert base.check().problems == ()
    assert [hit.source.path for hit in base.query("alpha", filters=Filters(target="cpu")).hits] == ["a.md"]
    assert not base.query("alpha", filters=Filters(target="cuda:sm_90")).hits


def test_check_finds_and_mends_each_kind_of_damage(filled: KnowledgeBase) -> None:
    from sqlalchemy import text

    damage = (
        "DELETE FROM chunk_words WHERE number = (SELECT min(number) FROM chunks)",
        "UPDATE chunk_words SET words = X'00' WHERE number = (SELECT min(number) FROM chunks)",
        "DELETE FROM vectors WHERE vector_hash = (SELECT min(vector_hash) FROM vectors)",
        "DELETE FROM sections WHERE document_id = (SELECT min(document_id) FROM documents)",
    )
    for statement in damage:
        with filled.catalogue.write() as connection:
            connection.execute(text(statement))
        assert filled.check().problems, statement
        report = filled.check(repair=True)
        assert report.problems == (), (statement, report)
        assert report.repaired


def test_lost_vector_index_is_rebuilt_from_the_catalogue(filled: KnowledgeBase) -> None:
    import shutil

    expected = [hit.chunk_id for hit in filled.query("shared memory", 5).hits]
    home = filled.home
    filled.close()
    shutil.rmtree(home / "kb" / "vectors")
    with KnowledgeBase.open(home) as base:
        assert any("missing" in problem for problem in base.check().problems)
        assert base.check(repair=True).problems == ()
        assert [hit.chunk_id for hit in base.query("shared memory", 5).hits] == expected
