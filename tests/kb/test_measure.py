from __future__ import annotations

import json
from pathlib import Path

import pytest

from kb.errors import DocumentError
from kb.measure import measure


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
