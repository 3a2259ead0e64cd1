"""Copies that make a base large must be chunks like any others: found, intact, numbered on."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import inspect

from evaluation.kb_copies import multiply
from kb.store import KnowledgeBase
from kb_ingest.pipeline import ingest


@pytest.mark.timeout(600)
def test_copies_are_chunks_like_any_others_and_more_can_follow(tmp_path: Path) -> None:
    pages = tmp_path / "pages"
    pages.mkdir()
    for number in range(3):
        body = f"The banks of unit {number} are {16 * (number + 1)} wide, says the manual of the machine."
        (pages / f"{number}.md").write_text(f"---\ntargets: [nvidia]\n---\n# Unit {number}\n\n{body}\n\n## More\n\n{body} Twice.\n")
    home = tmp_path / "home"
    with KnowledgeBase.open(home, embedder="hashing") as base:
        ingest([pages], base)
        indexes = {index["name"] for index in inspect(base.catalogue.engine).get_indexes("chunks")}
    catalogue = home / "kb" / "catalogue.sqlite"
    assert multiply(catalogue, 20, jobs=1) >= 20
    total = multiply(catalogue, 30, jobs=1)
    with KnowledgeBase.open(home) as base:
        found = base.check()
        assert found.counts["chunks"] == total >= 30
        assert {index["name"] for index in inspect(base.catalogue.engine).get_indexes("chunks")} == indexes
        assert all(problem.startswith("vector collection") for problem in found.problems), found.problems
        sources = {hit.source.path for mode in ("dense", "lexical") for hit in base.query("banks of the unit", 20, mode=mode).hits}
        assert any(source.startswith("copy-2/") for source in sources)
        ingest([pages], base)
        assert base.documents()
