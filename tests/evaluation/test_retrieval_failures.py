from __future__ import annotations

import json
from pathlib import Path

import pytest

from evaluation.retrieval_failures import main
from evaluation.retrieval_report import failures
from kb.store import KnowledgeBase
from kb.types import Document, Kind, Section

BODIES = {
    "warps": "Thirty-two threads step together, and a buffer belongs to each of them.",
    "banks": "Words that lie in one of them are read after each other.",
    "waves": "Programs that do not fit start when the first are done.",
    "tiles": "A block of the matrix is copied to a buffer on chip and filled again later.",
    "grids": "Axes of a launch count programs, not threads.",
    "lanes": "Neighbours exchange registers by shuffles.",
    "stages": "Loads run ahead of the arithmetic that needs them.",
    "queues": "What waits longest is taken first by whoever is free.",
}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    with KnowledgeBase.open(folder, embedder="hashing") as base:
        for subject, body in BODIES.items():
            part = Section(subject.capitalize(), 2, body, 2, 3)
            base.add_document(Document(f"docs/{subject}.md", "Notes", Kind.GUIDE, Section("", 0, "", 1, 3, (part,)), f"hash of {subject}"))
    return folder


def write_suite(folder: Path, rows: list[dict[str, object]]) -> Path:
    folder.mkdir()
    (folder / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def question(name: str, text: str, sections: list[str], kind: str = "fact") -> dict[str, object]:
    gold = [{"document": f"docs/{section.lower()}.md", "section": section} for section in sections]
    return {"id": name, "text": text, "type": kind, "target": None, "gold": gold, "split": "dev"}


def test_each_failure_is_listed_once_with_its_reason_and_keeps_its_note(tmp_path: Path, home: Path) -> None:
    rows = [
        question("right", "Which threads step together?", ["Warps"]),
        question("refused", "How do I convert a Core ML model of banks?", ["Banks"]),
        question("answered", "Which buffer of the matrix is filled?", [], "unanswerable"),
        question(
            "spread", "buffer of waves and of tiles and of grids", ["Waves", "Tiles", "Lanes", "Stages", "Queues", "Grids"], "multi_hop"
        ),
    ]
    suite, out = write_suite(tmp_path / "suite", rows), tmp_path / "failures.jsonl"
    assert main([str(suite), "--home", str(home), "--out", str(out)]) == 0
    made = {(row["id"], row["failure"]): row for row in map(json.loads, out.read_text().splitlines())}
    assert {key[0] for key in made} == {"refused", "answered", "spread"}
    assert "'Core'" in made["refused", "refused"]["reason"]
    assert made["spread", "behind"]["reason"].startswith("needs 6 sections")
    assert len(made["spread", "behind"]["ranks"]) == 6 and made["spread", "behind"]["shared_words"] < 0.5
    noted = [{**row, "note": "by hand"} for row in made.values()]
    out.write_text("".join(json.dumps(row) + "\n" for row in noted))
    main([str(suite), "--home", str(home), "--out", str(out)])
    again = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["note"] for row in again] == ["by hand"] * len(made)
    table = failures(again)
    assert "| `answered` Which buffer of the matrix is filled? | dev | answered |" in table and "; by hand |" in table
