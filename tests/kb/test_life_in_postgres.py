"""The life of knowledge with the catalogue in PostgreSQL."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

from kb.store import KnowledgeBase
from kb.types import Confirmation, Document, Lesson


def test_versions_status_conflicts_lessons_copies_and_another_embedder_work_the_same(
    postgres_url: str, tmp_path: Path, make_document: Callable[..., Document]
) -> None:
    with KnowledgeBase.open(tmp_path / "home", embedder="hashing", database=postgres_url) as base:
        base.add_document(make_document("a.md", {"Limits": "The tile buffer per core is 64 KB."}))
        base.add_document(make_document("b.md", {"Limits": "The tile buffer per core is 96 KB."}))
        base.add_document(make_document("a.md", {"Limits": "The tile buffer per core is 128 KB."}))
        assert [(change.before, change.after) for change in base.diff("a.md")] == [
            ("The tile buffer per core is 64 KB.", "The tile buffer per core is 128 KB.")
        ]
        (conflict,) = base.query("tile buffer per core").conflicts
        assert [claim.source.path for claim in conflict.claims] == ["a.md", "b.md"]
        newer = make_document("c.md", {"Limits": "The tile buffer per core is 256 KB."})
        base.add_document(dataclasses.replace(newer, front_matter={"supersedes": ["b.md"]}))
        base.retire("a.md")
        assert {hit.source.path for hit in base.query("tile buffer per core").hits} == {"c.md"}
        assert base.conflicts() == ()
        key = base.add_lesson(Lesson("Fusing helps.", {}, 1.2, 1.1, 1.3, ("first",), "cpu", "p1"))
        assert base.confirm_lesson(key, Confirmation("e1", "p2", 1.2, 1.1, 1.3)).status == "promoted"
        assert base.change_embedder("hashing:64").switched
        assert base.check().problems == ()
        assert {hit.source.path for hit in base.query("tile buffer per core").hits} >= {"c.md"}
        base.export(tmp_path / "all.kb")
        contents = {stored.source: (stored.version, base.history(stored.source)) for stored in base.documents()}
    with KnowledgeBase.open(tmp_path / "copy", embedder="hashing:64") as copy:  # in SQLite
        assert copy.import_(tmp_path / "all.kb").embedded == 0
        assert {stored.source: (stored.version, copy.history(stored.source)) for stored in copy.documents()} == contents
        assert set(copy.statuses()) == {"a.md", "b.md"}
        assert copy.check().problems == ()
