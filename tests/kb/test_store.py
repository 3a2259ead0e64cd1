from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from kb.errors import EmbedderMismatch, StoreError, UnknownNameError
from kb.store import KnowledgeBase
from kb.types import Document, Filters, Kind, Trust


def sources(base: KnowledgeBase, query: str, filters: Filters, mode: str = "hybrid") -> set[str]:
    return {hit.source.path for hit in base.query(query, 20, filters, mode=mode).hits}


def test_document_comes_back_as_it_was_added(base: KnowledgeBase, make_document: Callable[..., Document]) -> None:
    document = make_document(
        "a.md", {"One": "alpha\n\nbeta", "Two": "gamma"}, ("nvidia", "cpu"), Kind.KERNEL, Trust.MEASURED, {"triton": ">=3.6"}
    )
    base.add_document(document)
    found = base.get_document("a.md")
    assert [(child.title, child.text) for child in found.root.children] == [("One", "alpha\n\nbeta"), ("Two", "gamma")]
    assert (found.kind, found.trust, found.targets, dict(found.valid_for)) == (
        Kind.KERNEL,
        Trust.MEASURED,
        ("nvidia", "cpu"),
        {"triton": ">=3.6"},
    )


def test_same_content_is_unchanged_and_other_content_updates(base: KnowledgeBase, make_document: Callable[..., Document]) -> None:
    assert base.add_document(make_document("a.md", {"One": "alpha"})) == "added"
    assert base.add_document(make_document("a.md", {"One": "alpha"})) == "unchanged"
    assert base.add_document(make_document("a.md", {"One": "omega"})) == "updated"
    assert base.query("omega").hits[0].text == "omega"
    assert not any("alpha" in hit.text for hit in base.query("alpha", 20).hits)


@pytest.mark.parametrize("mode", ["hybrid", "dense", "lexical"])
@pytest.mark.parametrize(
    ("target", "expected"),
    [("cuda:sm_90", {"nvidia.md", "hopper.md", "any.md"}), ("rocm:gfx950", {"amd.md", "any.md"}), ("cpu", {"any.md"})],
)
def test_target_filter_inherits_and_holds_in_every_leg(filled: KnowledgeBase, mode: str, target: str, expected: set[str]) -> None:
    found = sources(filled, "shared memory traffic", Filters(target=target), mode)
    assert found <= expected
    if mode != "lexical":
        assert found == expected


@pytest.mark.parametrize("mode", ["hybrid", "dense", "lexical"])
def test_kind_trust_and_source_filters_hold_in_every_leg(filled: KnowledgeBase, mode: str) -> None:
    assert sources(filled, "shared memory", Filters(kinds=(Kind.HARDWARE,)), mode) == {"hopper.md", "ampere.md"}
    assert sources(filled, "shared memory", Filters(trust=(Trust.MEASURED,)), mode) == {"hopper.md"}
    assert sources(filled, "shared memory", Filters(source="amp"), mode) == {"ampere.md"}


def test_version_filter_leaves_out_documents_whose_range_excludes_it(base: KnowledgeBase, make_document: Callable[..., Document]) -> None:
    base.add_document(make_document("old.md", {"A": "descriptor loads"}, valid_for={"triton": "<3.0"}))
    base.add_document(make_document("new.md", {"A": "descriptor stores"}, valid_for={"triton": ">=3.6"}))
    base.add_document(make_document("all.md", {"A": "descriptor facts"}))
    assert sources(base, "descriptor", Filters(valid_for={"triton": "3.6.0"})) == {"new.md", "all.md"}


def test_explained_parts_add_up_to_the_score(filled: KnowledgeBase) -> None:
    hits = filled.query("shared memory per block", 10, explain=True).hits
    assert hits
    for hit in hits:
        assert {"dense", "lexical", "first", "document"} <= set(hit.explain)
        assert sum(hit.explain.values()) == pytest.approx(hit.score, abs=1e-9)
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


@pytest.mark.parametrize("mode", ["hybrid", "dense", "lexical"])
def test_removed_document_is_gone_from_every_leg(filled: KnowledgeBase, mode: str) -> None:
    assert filled.remove("hopper.md")
    assert "hopper.md" not in sources(filled, "shared memory per block is 227 KB", Filters(), mode)
    assert not filled.remove("hopper.md")
    assert not filled.check().problems


def test_equal_texts_are_folded_into_one_hit_with_all_places(base: KnowledgeBase, make_document: Callable[..., Document]) -> None:
    for name in ("a.md", "b.md"):
        base.add_document(make_document(name, {"Licence": "Licensed under the Apache licence."}))
    (hit,) = base.query("apache licence").hits
    assert {hit.source.path, *(place.path for place in hit.also)} == {"a.md", "b.md"}


def test_other_processes_rank_the_same(filled: KnowledgeBase) -> None:
    program = (
        "import sys; from kb.store import KnowledgeBase; "
        "print([(h.chunk_id, round(h.score, 6)) for h in KnowledgeBase.open(sys.argv[1]).query('shared memory per block', 5).hits])"
    )
    here = [(hit.chunk_id, round(hit.score, 6)) for hit in filled.query("shared memory per block", 5).hits]
    there = subprocess.run([sys.executable, "-c", program, str(filled.home)], capture_output=True, text=True, check=True)
    assert there.stdout.strip() == str(here)


def test_open_base_sees_what_another_one_wrote(filled: KnowledgeBase, make_document: Callable[..., Document]) -> None:
    filled.query("anything")
    with KnowledgeBase.open(filled.home) as other:
        other.add_document(make_document("late.md", {"News": "zyzzyva tiles are new"}))
    assert filled.query("zyzzyva").hits[0].source.path == "late.md"


def test_other_embedder_is_refused(filled: KnowledgeBase) -> None:
    with pytest.raises(EmbedderMismatch, match="dimension '256' there, '64' here"):
        KnowledgeBase.open(filled.home, embedder="hashing:64")


def test_unknown_embedder_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="hashing, minilm, minilm-int8"):
        KnowledgeBase.open(tmp_path, embedder="word2vec")


def test_missing_base_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="kb ingest"):
        KnowledgeBase.open(tmp_path, create=False)
    assert not (tmp_path / "kb").exists()


def test_base_of_a_newer_version_is_left_alone(base: KnowledgeBase) -> None:
    path = base.home / "kb" / "catalogue.sqlite"
    base.close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE meta SET value = '999' WHERE key = 'schema_version'")
    with pytest.raises(StoreError, match="schema version 999"):
        KnowledgeBase.open(base.home)


def test_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "kb").mkdir()
    (tmp_path / "kb" / "catalogue.sqlite").write_bytes(b"not a database at all, but long enough to look at" * 50)
    with pytest.raises(StoreError, match="damaged"):
        KnowledgeBase.open(tmp_path)


@pytest.mark.parametrize(("query", "top_k"), [("", 5), ("   ", 5), ("warp", 0)])
def test_empty_query_and_useless_top_k_are_refused(filled: KnowledgeBase, query: str, top_k: int) -> None:
    with pytest.raises(ValueError, match=r"empty|top_k"):
        filled.query(query, top_k)


@pytest.mark.parametrize(
    "query", ['"', "AND OR NOT", "a* NEAR(b)", "(((", "col:x", "'; DROP TABLE chunks; --", "\0", "日本語 🚀", "x" * 30_000]
)
def test_no_query_text_is_taken_for_syntax(filled: KnowledgeBase, query: str) -> None:
    if not query.strip("\0"):
        query = "warp" + query
    filled.query(query, 3)
    assert filled.stats()["documents"] == 5


def test_query_on_an_empty_base_abstains(base: KnowledgeBase) -> None:
    result = base.query("anything")
    assert result.abstained
    assert not result.hits
    assert "empty" in result.reason and "filters" not in result.reason


def test_unknown_name_makes_the_base_abstain_and_show_the_nearest(filled: KnowledgeBase) -> None:
    result = filled.query("shared memory of the Zorblax9000")
    assert result.abstained
    assert "Zorblax9000" in result.reason
    assert result.hits


def test_known_question_is_answered(filled: KnowledgeBase) -> None:
    result = filled.query("how many lanes does a warp have")
    assert not result.abstained
    assert "32 lanes" in result.hits[0].text


def test_kernel_documents_give_front_matter_blocks_and_chunks(base: KnowledgeBase, make_document: Callable[..., Document]) -> None:
    code = "When to use it.\n\n```python kernel\ndef launch(x):\n    return x\n```\n\n```cpp  kernel\nint f();\n```"
    base.add_document(make_document("k.md", {"Code": code}, ("nvidia",), Kind.KERNEL))
    base.add_document(make_document("other.md", {"Code": code}, ("cpu",), Kind.KERNEL))
    (kernel,) = base.kernel_documents("cuda:sm_90")
    assert kernel.source == "k.md"
    assert kernel.code("python kernel") == "def launch(x):\n    return x\n"
    assert kernel.code("cpp kernel") == "int f();\n"
    assert kernel.code("python pattern") is None
    assert all(base.get_chunk(chunk_id).document_id == kernel.document_id for chunk_id in kernel.chunk_ids)


def test_unknown_ids_say_where_ids_come_from(base: KnowledgeBase) -> None:
    with pytest.raises(UnknownNameError, match="kb tree"):
        base.get_document("nothing")
    with pytest.raises(UnknownNameError, match="kb query"):
        base.get_chunk("nothing")


def test_tree_lists_families_documents_and_sections(filled: KnowledgeBase) -> None:
    nodes = {node.label: node for node in filled.tree(3)}
    assert set(nodes) == {"nvidia", "amd", "generic"}
    (document,) = [child for child in nodes["nvidia"].children if child.source == "nvidia.md"]
    assert [section.label for section in document.children] == ["Banks", "Warps"]
    assert document.num_chunks == 2


def test_target_named_in_the_words_restricts_the_hits(filled: KnowledgeBase) -> None:
    result = filled.query("shared memory per block on sm_90", 20)
    assert result.target == "cuda:sm_90"
    assert {hit.source.path for hit in result.hits} <= {"nvidia.md", "hopper.md", "any.md"}
    assert "amd.md" in {hit.source.path for hit in filled.query("shared memory per block on sm_90", 20, infer_target=False).hits}


def test_question_whose_words_are_unknown_is_not_answered(filled: KnowledgeBase) -> None:
    result = filled.query("how do I bake sourdough bread at home")
    assert result.abstained
    assert "sourdough" in result.reason
