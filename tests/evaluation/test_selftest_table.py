"""The table of the self-test: counted from records, the last one of a fixture counts, what failed is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from evaluation.errors import RecordError
from evaluation.selftest_table import read_findings, table


def line(name: str, family: str, complaint: str = "", target: str = "cuda:sm_90") -> str:
    environment = {"device": {"device": "NVIDIA H100", "torch": "2.11.0"}, "host": {"python": "3.12.3"}}
    return json.dumps(
        {
            "target": target,
            "id": name[:3],
            "name": name,
            "family": family,
            "complaint": complaint,
            "got": "passed",
            "environment": environment,
        }
    )


def test_families_are_counted_and_the_last_record_of_a_fixture_counts(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    lines = [
        line("t01", "T timing", "expected reward_hack, got passed"),
        line("t02", "T timing"),
        line("t01", "T timing"),
        line("c01", "C caching", "claims 3x"),
    ]
    path.write_text("\n".join([*lines, line("t02", "T timing", target="cpu")]) + "\n")
    text = table(read_findings([path]))
    assert "| T timing | 1 of 1 | 2 of 2 |" in text and "| all | 1 of 1 | 2 of 3 |" in text and "| C caching |  | 0 of 1 |" in text
    assert "- cuda:sm_90 c01 c01: claims 3x" in text and "got passed" not in text
    assert "- cuda:sm_90: NVIDIA H100, torch 2.11.0, python 3.12.3" in text


def test_a_line_that_is_no_record_is_named(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    path.write_text(line("t01", "T timing") + "\n{}\n")
    with pytest.raises(RecordError, match=r"records\.jsonl:2"):
        read_findings([path])
