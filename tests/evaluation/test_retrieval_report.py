from __future__ import annotations

import json
from pathlib import Path

import pytest

from evaluation.errors import EvaluationError
from evaluation.retrieval_report import main
from kb.deep.measure import AskedQuestion, AskReport
from kb.measure import Abstention, ModeReport, SuiteReport, compare


def test_report_shows_each_way_of_searching_and_each_type(tmp_path: Path) -> None:
    kinds = {"fact": {"questions": 3.0, "section@5": 1.0}, "error": {"questions": 1.0, "section@5": 0.0}}
    default = ModeReport("hybrid", {"section@5": 0.75}, kinds, Abstention(2, 4, 1, 0), 0, {"p50": 1.0}, None, {})
    lexical = ModeReport(
        "lexical", {"section@5": 0.5}, kinds, Abstention(2, 4, 1, 0), 1, {"p50": 1.0}, compare("section@5", [1, 0], [0, 0]), {}
    )
    made = SuiteReport("manuals", "dev", 3, 6, 2, 40, "hashing", 0.1, {"dense_weight": 0.5}, (default, lexical))
    (tmp_path / "manuals.json").write_text(json.dumps(made.to_json()))
    assert main([str(tmp_path)]) == 0
    text = (tmp_path / "README.md").read_text()
    assert "| hybrid | 0.7500 |" in text and "| lexical | 0.5000 | +0.5000" in text
    assert "| fact | 3 | 1.0000 |" in text and "Abstained on 1 of 2 unanswerable and 0 of 4 answerable" in text


def test_report_shows_what_deep_search_found_and_its_calls(tmp_path: Path) -> None:
    asked = (
        AskedQuestion("fact-1", "fact", {5: True, 10: True, 20: True}, True, 12, 0.5, True, 2),
        AskedQuestion("fact-2", "fact", {5: False, 10: True, 20: True}, True, 8, 0.5, False, 2),
    )
    (tmp_path / "manuals-ask.json").write_text(json.dumps(AskReport("manuals", asked, "dev", 3, 40, "hashing", True).to_json()))
    assert main([str(tmp_path)]) == 0
    text = (tmp_path / "README.md").read_text()
    assert "through `kb ask`, advised by a language model" in text
    assert "| fact | 2 | 0.500 | 1.000 | 1.000 | 0.500 | 0.000 | 10.000 | 2.000 |" in text


def test_folder_without_records_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="no records"):
        main([str(tmp_path)])
