"""Vectors in a Chroma server: the same answers as embedded, on a real one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kb.errors import StoreError
from kb.search import Searcher
from kb.store import KnowledgeBase
from kb.types import Filters
from kb.vectors import ChromaStore


@pytest.fixture
def remote(tmp_path: Path, chroma_url: str) -> Iterator[KnowledgeBase]:
    with KnowledgeBase.open(tmp_path / "remote", embedder="hashing", vectors=chroma_url) as opened:
        yield opened


def fill(base: KnowledgeBase, make_document: Any) -> None:
    for number in range(12):
        target = ("nvidia", "cuda:sm_90", "amd", "generic")[number % 4]
        base.add_document(make_document(f"{number}.md", {"Banks": f"Shared memory has {number} banks of {4 * number} bytes."}, (target,)))


def asked_of_chroma(base: KnowledgeBase, query: str, filters: Filters) -> list[str]:
    searcher = Searcher(base.catalogue, base.embedder, base.index, scan_limit=0)
    from kb.retrieval import MODES

    return [hit.source.path for hit in searcher.query(query, 20, filters, False, MODES["dense"]).hits]


@pytest.mark.parametrize("target", [None, "cuda:sm_90", "amd"])
def test_the_server_finds_what_the_scan_finds(remote: KnowledgeBase, make_document: Any, target: str | None) -> None:
    fill(remote, make_document)
    filters = Filters(target=target)
    scanned = [hit.source.path for hit in remote.query("7 banks of 28 bytes", 20, filters, mode="dense").hits]
    assert scanned and asked_of_chroma(remote, "7 banks of 28 bytes", filters) == scanned
    assert remote.check().problems == ()


def test_what_is_removed_or_changed_is_gone_from_the_server(remote: KnowledgeBase, make_document: Any) -> None:
    fill(remote, make_document)
    remote.remove("7.md")
    remote.add_document(make_document("8.md", {"Banks": "Nothing of the kind."}, ("nvidia",)))
    found = asked_of_chroma(remote, "7 banks of 28 bytes", Filters())
    assert "7.md" not in found and len(found) == 11
    assert remote.check().problems == ()


def test_two_bases_on_one_server_do_not_see_each_other(remote: KnowledgeBase, chroma_url: str, tmp_path: Path, make_document: Any) -> None:
    with KnowledgeBase.open(tmp_path / "other", embedder="hashing", vectors=chroma_url) as other:
        remote.add_document(make_document("mine.md", {"Banks": "Shared memory has 32 banks."}))
        other.add_document(make_document("theirs.md", {"Banks": "Shared memory has 64 banks."}))
        assert asked_of_chroma(remote, "banks", Filters()) == ["mine.md"]
        assert asked_of_chroma(other, "banks", Filters()) == ["theirs.md"]


def test_collections_that_the_server_lost_are_found_missing_and_repaired(
    remote: KnowledgeBase, chroma_url: str, make_document: Any
) -> None:
    fill(remote, make_document)
    with remote.catalogue.read() as connection:
        base_id = remote.catalogue.get_meta(connection, "base_id") or ""
    store = ChromaStore(chroma_url, base_id)
    assert len(store.collections()) == 8  # chunks and sections of four targets
    for name in store.collections():
        store.drop(name)
    assert any("missing" in problem for problem in remote.check().problems)
    assert remote.check(repair=True).problems == ()
    assert "7.md" in asked_of_chroma(remote, "7 banks of 28 bytes", Filters())


def test_a_server_that_is_away_loses_nothing(tmp_path: Path, chroma_url: str, make_document: Any, caplog: pytest.LogCaptureFixture) -> None:
    with KnowledgeBase.open(tmp_path / "home", embedder="hashing", vectors="http://127.0.0.1:9") as base:
        assert base.add_document(make_document("a.md", {"Banks": "Shared memory has 32 banks."})) == "added"
        assert "no Chroma server answers at http://127.0.0.1:9" in caplog.text
        assert base.query("banks").hits[0].source.path == "a.md"  # the catalogue has it; the scan needs no server
        assert base.index.pending() > 0
    with KnowledgeBase.open(tmp_path / "home", vectors=chroma_url) as base:
        base.index.flush()
        assert base.check().problems == ()


@pytest.mark.parametrize("address", ["localhost:8000", "ftp://host", "http://"])
def test_what_is_no_address_of_a_server_is_refused(tmp_path: Path, address: str) -> None:
    with pytest.raises(StoreError, match="http://HOST:PORT"):
        KnowledgeBase.open(tmp_path, embedder="hashing", vectors=address)
