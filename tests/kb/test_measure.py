from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from kb.errors import DocumentError
from kb.measure import compare, measure
from kb.store import KnowledgeBase
from kb.suite import Gold, Suite, read_suite
from kb.types import Document

MakeDocument = Callable[..., Document]


def suite(root: Path) -> Path:
    texts = {"d1": "warps have lanes", "d2": "banks conflict", "d3": "tiles of matrices"}
    (root / "corpus.jsonl").write_text("\n".join(json.dumps({"_id": key, "title": "", "text": text}) for key, text in texts.items()))
    queries = {"q1": "lanes of warps", "q2": "conflict of banks", "q3": "matrices tiles"}
    (root / "queries.jsonl").write_text("\n".join(json.dumps({"_id": key, "text": text}) for key, text in queries.items()))
    (root / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\nq1\td1\t1\nq2\td2\t1\nq3\td1\t1\n")
    return root


def test_metrics_agree_with_a_hand_calculation(tmp_path: Path) -> None:
    (tmp_path / "suite").mkdir()
    report = measure(suite(tmp_path / "suite"), tmp_path / "home", "hashing")
    hybrid = next(mode for mode in report.modes if mode.mode == "hybrid")
    # q1 and q2 rank their document first (1.0 each); q3's document is not the first, its reciprocal rank is 1/2 or 1/3
    assert 2 / 3 < hybrid.metrics["RR@10"] <= (2 + 0.5) / 3 + 1e-9
    assert hybrid.metrics["R@10"] == pytest.approx(1.0)
    assert (report.num_documents, report.num_queries) == (3, 3)
    again = measure(tmp_path / "suite", tmp_path / "home", "hashing")
    assert [mode.metrics for mode in again.modes] == [mode.metrics for mode in report.modes]


@pytest.mark.parametrize("name", ["corpus.jsonl", "queries.jsonl", "qrels.tsv"])
def test_missing_file_of_a_suite_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "suite").mkdir()
    suite(tmp_path / "suite")
    (tmp_path / "suite" / name).unlink()
    with pytest.raises(DocumentError, match=name):
        measure(tmp_path / "suite", tmp_path / "home", "hashing")


@pytest.mark.parametrize("text", ["{broken\n", "{}\n", "[]\n"])
def test_broken_line_of_a_suite_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "suite").mkdir()
    suite(tmp_path / "suite")
    (tmp_path / "suite" / "queries.jsonl").write_text(text)
    with pytest.raises(DocumentError, match="line 1"):
        measure(tmp_path / "suite", tmp_path / "home", "hashing")


def places(root: Path) -> Path:
    rows = [
        {
            "id": "f1",
            "text": "how many lanes has a warp",
            "type": "fact",
            "gold": [{"document": "a.md", "section": "Warps"}],
            "split": "dev",
        },
        {"id": "f2", "text": "banks of memory", "type": "fact", "gold": [{"document": "a.md", "section": "Nowhere"}], "split": "dev"},
        {
            "id": "m1",
            "text": "lanes of a warp and banks of memory",
            "type": "multi_hop",
            "gold": [{"document": "a.md", "section": "Warps"}, {"document": "b.md", "section": "Banks"}],
            "split": "dev",
        },
        {"id": "u1", "text": "How fast is a Zorkchip?", "type": "unanswerable", "gold": [], "split": "dev"},
        {"id": "h1", "text": "warps", "type": "fact", "gold": [{"document": "a.md", "section": "Warps"}], "split": "held_out"},
    ]
    root.mkdir()
    (root / "questions.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    return root


def test_places_are_scored_by_section_document_and_abstention(tmp_path: Path, make_document: MakeDocument) -> None:
    def bring_in(base: KnowledgeBase, suite: Suite) -> None:
        base.add_document(make_document("a.md", {"Warps": "A warp has 32 lanes.", "Other": "Nothing of interest."}))
        base.add_document(make_document("b.md", {"Banks": "Memory has 32 banks."}))

    report = measure(places(tmp_path / "suite"), tmp_path / "home", "hashing", split="dev", modes=("lexical",), bring_in=bring_in)
    default, lexical = report.modes
    assert [mode.mode for mode in report.modes] == ["hybrid", "lexical"] and report.num_queries == 4
    assert default.by_kind["multi_hop"]["section@5"] == 1.0
    assert default.by_kind["fact"] == {**default.by_kind["fact"], "questions": 2.0, "section@5": 0.5, "document@10": 1.0}
    assert default.metrics["section@5"] == pytest.approx(2 / 3)
    found = default.abstention
    assert (found.caught, found.num_unanswerable, found.false, found.num_answerable) == (1, 1, 0, 3)
    assert (found.precision, found.recall, found.false_rate) == (1.0, 1.0, 0.0)
    assert lexical.comparison is not None and lexical.comparison.metric == "section@5"
    assert json.loads(json.dumps(report.to_json()))["modes"]["hybrid"]["abstention"]["recall"] == 1.0
    assert "fact" in report.to_text()


def test_a_gold_heading_holds_with_and_without_marks_of_code() -> None:
    gold = Gold("a.md", "`tl.load` and *masks*")
    assert gold.holds("docs/a.md", ("Loads", "tl.load and masks")) and not gold.holds("docs/a.md", ("Loads", "tl.load"))


def test_split_keeps_held_out_questions_apart(tmp_path: Path) -> None:
    folder = places(tmp_path / "suite")
    assert [question.question_id for question in read_suite(folder, "held_out").questions] == ["h1"]
    assert len(read_suite(folder).questions) == 5
    with pytest.raises(ValueError, match="no split"):
        read_suite(folder, "test")


def test_comparison_finds_a_difference_and_none_in_equal_lists() -> None:
    clear = compare("nDCG@10", [1.0] * 30, [0.0] * 20 + [1.0] * 10)
    assert clear.p_value < 0.001 and 0 < clear.low <= clear.difference <= clear.high
    equal = compare("nDCG@10", [0.5] * 30, [0.5] * 30)
    assert (equal.difference, equal.low, equal.high, equal.p_value) == (0.0, 0.0, 0.0, 1.0)
