from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from kb.deep.measure import is_found, measure_ask
from kb.errors import DocumentError
from kb.store import KnowledgeBase
from kb.suite import Gold, Question
from kb.types import Document


def _suite(folder: Path, rows: list[dict[str, object]]) -> Path:
    folder.mkdir()
    (folder / "questions.jsonl").write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return folder


def test_deep_search_is_measured_by_type_with_its_calls(tmp_path: Path, make_document: Callable[..., Document]) -> None:
    with KnowledgeBase.open(tmp_path / "home", embedder="hashing") as base:
        base.add_document(make_document("docs/a.md", {"Banks": "Shared memory has 32 banks.", "Warps": "A warp has 32 lanes."}))
    rows: list[dict[str, object]] = [
        {
            "id": "fact-1",
            "text": "How many banks has shared memory?",
            "type": "fact",
            "gold": [{"document": "docs/a.md", "section": "Banks"}],
        },
        {
            "id": "fact-2",
            "text": "How many banks has shared memory?",
            "type": "fact",
            "gold": [{"document": "docs/b.md", "section": "Banks"}],
        },
        {"id": "unanswerable-1", "text": "What clock has the Frobnicator7?", "type": "unanswerable", "gold": []},
    ]
    report = measure_ask(_suite(tmp_path / "suite", rows), tmp_path / "home").to_json()
    assert report["types"]["fact"]["section@10"] == 0.5
    assert report["types"]["unanswerable"]["unanswered"] == 1.0
    assert "section@10" not in report["types"]["unanswerable"]
    assert all(question["num_calls"] > 0 for question in report["questions"])


def test_all_places_are_needed_for_questions_with_several_hops() -> None:
    gold = (Gold("a.md", "One"), Gold("b.md", "Two"))
    places = [("docs/a.md", ("A", "One"))]
    assert is_found(Question("q", "text", "fact", gold=gold), places)
    assert not is_found(Question("q", "text", "multi_hop", gold=gold), places)


def test_a_suite_without_questions_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DocumentError):
        measure_ask(tmp_path, tmp_path / "home")
