"""Changing the embedder of a base while it is in use."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from sqlalchemy import text

from kb.embedders.hashing import HashingEmbedder
from kb.errors import EmbedderMismatch
from kb.retrieval import MODES
from kb.search import Searcher
from kb.store import KnowledgeBase
from kb.types import Document, Filters


class Hooked(HashingEmbedder):
    """An embedder that does something at a given call."""

    def __init__(self, dimension: int, at_call: int, action: Callable[[], None]) -> None:
        super().__init__(dimension)
        self.calls, self._at_call, self._action = 0, at_call, action

    def embed_documents(self, texts: Sequence[str]):  # type: ignore[no-untyped-def]
        self.calls += 1
        if self.calls == self._at_call:
            self._action()
        return super().embed_documents(texts)


class KilledError(Exception):
    pass


def killed() -> None:
    raise KilledError


@pytest.fixture
def many(base: KnowledgeBase, make_document: Callable[..., Document], monkeypatch: pytest.MonkeyPatch) -> KnowledgeBase:
    monkeypatch.setattr("kb.reembedding.BATCH_TEXTS", 2)
    for number in range(4):
        base.add_document(make_document(f"{number}.md", {"One": f"tile {number} holds data", "Two": f"warp {number} has lanes"}))
    return base


def dimensions(base: KnowledgeBase, table: str = "vectors") -> set[int]:
    with base.catalogue.read() as connection:
        return {int(row[0]) // 4 for row in connection.execute(text(f"SELECT DISTINCT length(vector) FROM {table}"))}


def test_change_switches_queries_ingestion_and_index_to_the_new_embedder(
    many: KnowledgeBase, make_document: Callable[..., Document]
) -> None:
    steps: list[tuple[int, int]] = []
    change = many.change_embedder("hashing:64", progress=lambda done, total: steps.append((done, total)))
    assert (change.embedded, change.switched, steps[-1]) == (8, True, (8, 8))
    assert (dimensions(many), dimensions(many, "next_vectors")) == ({64}, set())
    assert "warp 2" in many.query("warp 2 lanes").hits[0].text
    many.add_document(make_document("new.md", {"One": "a swizzle avoids conflicts"}))
    assert dimensions(many) == {64}
    assert many.check().problems == ()
    with KnowledgeBase.open(many.home) as again:
        assert again.embedder().identity.dimension == 64
    with pytest.raises(EmbedderMismatch):
        KnowledgeBase.open(many.home, embedder="hashing")


def test_queries_see_the_former_embedder_until_the_switch(many: KnowledgeBase) -> None:
    found: list[str] = []
    with KnowledgeBase.open(many.home) as reader:

        def look() -> None:
            found.append(reader.query("warp 2 lanes").hits[0].text)
            assert dimensions(reader) == {256}

        many.change_embedder(Hooked(64, 3, look))
        assert found == ["warp 2 has lanes"]
        assert dimensions(reader) == {64}


def test_reader_that_named_no_embedder_follows_the_switch(many: KnowledgeBase) -> None:
    with KnowledgeBase.open(many.home) as reader, KnowledgeBase.open(many.home, embedder="hashing") as fixed:
        before = [hit.chunk_id for hit in reader.query("warp 2 lanes").hits]
        fixed.query("warp")
        many.change_embedder("hashing:64")
        assert reader.query("warp 2 lanes").hits[0].chunk_id == before[0]
        with pytest.raises(EmbedderMismatch, match="dimension '64' there"):
            fixed.query("warp 2 lanes")


def test_base_that_has_not_embedded_anything_yet_follows_its_own_change(many: KnowledgeBase) -> None:
    with KnowledgeBase.open(many.home) as fresh:
        fresh.change_embedder("hashing:64")
        assert fresh.query("warp 2 lanes").hits


def test_interrupted_change_goes_on_where_it_was(many: KnowledgeBase) -> None:
    with pytest.raises(KilledError):
        many.change_embedder(Hooked(64, 3, killed))
    with KnowledgeBase.open(many.home) as again:
        state = again.change_state()
        assert state is not None
        assert (state.done, state.total) == (4, 8)
        assert again.check().problems == ()
        assert again.query("warp 2 lanes").hits
        rest = Hooked(64, 0, killed)
        assert again.change_embedder(rest).embedded == 4
        assert rest.calls == 2
        assert again.change_state() is None


def test_other_embedder_than_the_interrupted_one_starts_anew(many: KnowledgeBase) -> None:
    with pytest.raises(KilledError):
        many.change_embedder(Hooked(64, 3, killed))
    assert many.change_embedder("hashing:32").embedded == 8
    assert dimensions(many) == {32}
    assert many.check().problems == ()


def test_change_back_to_the_present_embedder_drops_what_was_begun(many: KnowledgeBase) -> None:
    with pytest.raises(KilledError):
        many.change_embedder(Hooked(64, 3, killed))
    assert many.change_embedder("hashing").embedded == 0
    assert (many.change_state(), dimensions(many), dimensions(many, "next_vectors")) == (None, {256}, set())


def test_stopped_change_says_so(many: KnowledgeBase) -> None:
    stop = threading.Event()
    change = many.change_embedder(Hooked(64, 2, stop.set), stop=stop)
    assert (change.switched, change.embedded) == (False, 4)
    assert dimensions(many) == {256}


def test_documents_that_come_and_go_meanwhile_are_in_the_new_index(many: KnowledgeBase, make_document: Callable[..., Document]) -> None:
    with KnowledgeBase.open(many.home) as writer:

        def write() -> None:
            writer.add_document(make_document("late.md", {"One": "zyzzyva tiles"}))
            writer.remove("0.md")

        many.change_embedder(Hooked(64, 4, write))
        assert many.check().problems == ()
        assert many.query("zyzzyva tiles").hits[0].source.path == "late.md"
        approximate = Searcher(many.catalogue, many.embedder, many.index, scan_limit=0)
        assert "0.md" not in {hit.source.path for hit in approximate.query("tile 0 holds", 20, Filters(), False, MODES["dense"]).hits}


def test_ingestion_that_embedded_before_the_switch_embeds_again(
    many: KnowledgeBase, make_document: Callable[..., Document], tmp_path: Path
) -> None:
    with KnowledgeBase.open(many.home) as writer:
        slow = Hooked(256, 1, lambda: many.change_embedder("hashing:64") and None)
        writer.embedder()
        writer._embedder = slow
        assert writer.add_document(make_document("late.md", {"One": "zyzzyva tiles"})) == "added"
    assert dimensions(many) == {64}
    assert many.check().problems == ()


def test_kill_between_switch_and_cleaning_up_is_mended(many: KnowledgeBase, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kb.reembedding._drop_former", lambda base: killed())
    with pytest.raises(KilledError):
        many.change_embedder("hashing:64")
    monkeypatch.undo()
    assert any("former embedder" in problem for problem in many.check().problems)
    assert many.query("warp 2 lanes").hits
    assert many.check(repair=True).problems == ()


def test_chunks_too_long_for_the_new_embedder_are_cut_anew(base: KnowledgeBase, make_document: Callable[..., Document]) -> None:
    class Short(HashingEmbedder):
        max_tokens = 40

    base.add_document(make_document("a.md", {"One": "\n".join(f"line {number} says something of use here" for number in range(25))}))
    before = len(base.chunks_of(base.documents()[0].document_id))
    change = base.change_embedder(Short(64))
    assert (change.recut, base.documents()[0].version) == (1, 1)
    assert len(base.chunks_of(base.documents()[0].document_id)) > before
    assert base.check().problems == ()
