"""The report of a calibration is computed from its comparisons, not copied from its summary."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from evaluation.calibration_report import main, read_comparisons, report
from evaluation.errors import RecordError

RECORDS = Path(__file__).resolve().parents[2] / "evaluation" / "results" / "calibration-h100" / "records.jsonl"


def line(low: float, high: float, slow_down: float = 0.0, problem: str = "matmul") -> str:
    value = (low * high) ** 0.5
    interval = {"value": value, "low": low, "high": high}
    return json.dumps(
        {"comparison": {"problem": problem, "slow_down": slow_down, "status": "passed", "speedup": interval, "latency_ms": 1.0}}
    )


def test_wins_losses_and_power_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "records.jsonl"
    lines = [line(0.99, 1.01), line(1.001, 1.01), line(0.98, 0.99, problem="softmax"), line(0.9, 0.92, 0.1), line(0.99, 1.02, 0.1)]
    path.write_text("\n".join(lines) + "\n")
    assert main([str(path)]) == 0
    text = capsys.readouterr().out
    assert "| all | 3 | 1 | 1 |" in text and "| matmul | 2 | 1 | 0 |" in text and "| softmax | 1 | 0 | 1 |" in text
    assert "| 10% |" in text and "| 2 | 50% |" in text


def test_the_published_summary_follows_from_the_published_comparisons() -> None:
    found, summary = read_comparisons(RECORDS)
    text, stated = report(found, summary), summary["calibration"]
    assert f"{stated['false_wins']} of {stated['comparisons']} claim a win and {stated['false_losses']} a loss" in text
    assert f"pairs): {stated['false_wins_widened']} and {stated['false_losses_widened']}" in text
    for share, power in stated["detected"].items():
        assert f"| {float(share):.0%} | {stated['observed'][share]:.2%} | {stated['copies'][share]} | {power:.0%} |" in text


@pytest.mark.parametrize("text", ["nonsense", "{}", '{"comparison": {}}', "[]"])
def test_what_is_no_record_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "records.jsonl"
    path.write_text(text)
    with pytest.raises(RecordError, match=r"records\.jsonl:1"):
        read_comparisons(path)
