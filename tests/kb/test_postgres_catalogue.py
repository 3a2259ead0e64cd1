"""The catalogue in PostgreSQL: the same answers as in SQLite, on a real server."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kb.errors import StoreError
from kb.store import Incoming, KnowledgeBase
from kb.types import Filters, Kind, Lesson

pytestmark = pytest.mark.xdist_group("postgres")


@pytest.fixture
def remote(tmp_path: Path, postgres_url: str) -> Iterator[KnowledgeBase]:
    with KnowledgeBase.open(tmp_path / "remote", embedder="hashing", database=postgres_url) as opened:
        yield opened


def pages(make_document: Any) -> list[Any]:
    words = ["shared", "memory", "bank", "warp", "lane", "tile", "reduction", "matrix", "accumulate", "prefetch", "register", "occupancy"]
    kinds = (Kind.GUIDE, Kind.HARDWARE)
    return [
        make_document(
            f"{'Übung' if number % 5 == 0 else 'page'}-{number}.md",
            {f"Part {part}": " ".join(words[(number * part + step) % len(words)] for step in range(9 + part)) for part in range(1, 5)},
            (("nvidia",), ("cuda:sm_90",), ("amd",), ("generic",))[number % 4],
            kinds[number % 2],
        )
        for number in range(24)
    ]


def rankings(base: KnowledgeBase) -> list[Any]:
    found = []
    for filters in (Filters(), Filters(target="cuda:sm_90"), Filters(kinds=(Kind.HARDWARE,), source="page")):
        for query in ("bank conflicts in shared memory", "register occupancy", "Übung tile", "unknown_name_zq9"):
            for mode in ("hybrid", "lexical", "dense"):
                found.append(base.query(query, 10, filters, explain=True, mode=mode))
    return found


def test_answers_equal_those_of_sqlite(base: KnowledgeBase, remote: KnowledgeBase, make_document: Any) -> None:
    for opened in (base, remote):
        opened.add_documents([Incoming(page) for page in pages(make_document)])
        opened.index.flush()
        opened.remove("page-7.md")
    assert rankings(remote) == rankings(base)
    assert remote.tree(4) == base.tree(4)
    assert remote.documents() == base.documents()
    assert [dataclasses.asdict(leaf) for leaf in remote.chunks_of(remote.documents()[0].document_id)]
    assert remote.check().problems == base.check().problems == ()


def test_documents_come_update_and_go(remote: KnowledgeBase, make_document: Any) -> None:
    assert remote.add_document(make_document("a.md", {"Banks": "Shared memory has 32 banks.\0"})) == "added"
    assert remote.add_document(make_document("a.md", {"Banks": "Shared memory has 32 banks.\0"})) == "unchanged"
    assert remote.add_document(make_document("a.md", {"Banks": "Shared memory has 64 banks."})) == "updated"
    assert [hit.text for hit in remote.query("banks").hits] == ["Shared memory has 64 banks."]
    assert remote.get_document("a.md").title == "Title of a.md"
    assert remote.remove("a.md") and not remote.remove("a.md")
    assert remote.query("banks").hits == ()
    assert remote.check().problems == ()


def test_lessons_are_stored_and_found(remote: KnowledgeBase) -> None:
    lesson = Lesson("Pad rows to avoid bank conflicts.", {"anchor": "aten.mm.default"}, 1.2, 1.1, 1.3, ("e1",), "cuda:sm_90", "p1")
    lesson_id = remote.add_lesson(lesson)
    (match,) = remote.lessons("cuda:sm_90")
    assert (match.lesson_id, match.lesson.claim, match.chunk_ids != ()) == (lesson_id, lesson.claim, True)


def test_a_second_base_on_the_same_database_sees_every_commit(
    remote: KnowledgeBase, postgres_url: str, tmp_path: Path, make_document: Any
) -> None:
    with KnowledgeBase.open(tmp_path / "other", embedder="hashing", database=postgres_url) as other:
        assert other.query("banks").hits == ()
        remote.add_document(make_document("a.md", {"Banks": "Shared memory has 32 banks."}))
        assert len(other.query("banks").hits) == 1
        remote.remove("a.md")
        assert other.query("banks").hits == ()


ADD_FIVE = """
import sys
from kb.store import KnowledgeBase
from kb.types import Document, Kind, Section
home, url, first = sys.argv[1], sys.argv[2], int(sys.argv[3])
with KnowledgeBase.open(home, embedder="hashing", database=url) as base:
    for number in range(first, first + 5):
        root = Section("Banks", 0, f"Bank number {number} of shared memory.", 1, 1, text_line=1)
        base.add_document(Document(f"{number}.md", "Banks", Kind.GUIDE, root, str(number)))
"""


def test_processes_that_write_at_once_lose_nothing(postgres_url: str, tmp_path: Path) -> None:
    arguments = [sys.executable, "-c", ADD_FIVE, str(tmp_path / "home"), postgres_url]
    workers = [subprocess.Popen([*arguments, str(first)]) for first in (0, 5, 10)]
    assert [worker.wait(280) for worker in workers] == [0, 0, 0]
    with KnowledgeBase.open(tmp_path / "home", database=postgres_url) as base:
        assert sorted(stored.source for stored in base.documents()) == sorted(f"{number}.md" for number in range(15))
        assert base.check().problems == ()


@pytest.mark.parametrize("address", ["postgresql://nobody@/nowhere?host=/nonexistent", "postgresql://u:sesame@127.0.0.1:1/x"])
def test_a_server_that_is_not_there_is_named_without_its_password(tmp_path: Path, address: str) -> None:
    with pytest.raises(StoreError, match="check that the server runs") as caught:
        KnowledgeBase.open(tmp_path, database=address)
    assert "sesame" not in str(caught.value)


def test_an_empty_database_is_not_filled_by_a_reader(tmp_path: Path, postgres_url: str) -> None:
    with pytest.raises(StoreError, match="kb ingest"):
        KnowledgeBase.open(tmp_path, database=postgres_url, create=False)
