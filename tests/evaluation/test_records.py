"""Raw records: appended, read back whole, refused when they cannot be right."""

from __future__ import annotations

from pathlib import Path

import pytest

from evaluation.errors import RecordError
from evaluation.records import Record, append, latest, read
from evaluation.report import render
from tools.types import Evaluation, Evidence, Interval, Status


def record(problem: str = "p", value: float = 2.0, label: str = "") -> Record:
    speedup = {"eager": Interval(value, value - 0.1, value + 0.1)}
    best = Evaluation("c", problem, "cpu", Evidence.MEASURED, Status.PASSED, latency_ms=0.5, speedup=speedup)
    return Record("s", problem, "cpu", best.to_json(), 3, 1.5, "kevolve run p", {"device": "x", "torch": "2"}, label=label)


def test_records_read_back_equal(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.jsonl"
    append(path, record("a"))
    append(path, record("b"))
    assert [item.problem_id for item in read([path])] == ["a", "b"]
    assert read([path])[0].evaluation.speedup["eager"].value == 2.0


@pytest.mark.parametrize("line", ["{", "[]", '{"schema": 99}', '{"schema": 1, "suite": "s"}', '{"schema": 1, "extra_key": 2}'])
def test_a_malformed_line_names_its_place(tmp_path: Path, line: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("\n" + line + "\n")
    with pytest.raises(RecordError, match=r"a\.jsonl:2"):
        read([path])


def test_the_newest_line_of_a_problem_counts() -> None:
    chosen = latest([record("a", 2.0), record("a", 3.0), record("a", 9.0, label="cold")])
    assert len(chosen) == 2 and chosen[("a", "")].evaluation.speedup["eager"].value == 3.0


def test_report_shows_every_problem_and_the_environment() -> None:
    text = render([record("a"), record("b", 1.5)], "T")
    assert "| a |" in text and "1.50 [1.40, 1.60]" in text and "device x" in text and "kevolve run p" in text
