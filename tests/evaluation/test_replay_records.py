"""Records of a benchmark hold what a replay needs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from evaluation.records import read
from evaluation.replay_records import main, receipt_of, replays
from tools.evaluator import LocalEvaluator
from tools.problems import problem_from_source
from tools.replay import _require_unchanged
from tools.types import Candidate, Status

RESULTS = Path(__file__).resolve().parents[2] / "evaluation" / "results"


@pytest.mark.parametrize("name", ["kernelbench-h100", "examples-cpu"])
def test_every_published_winner_can_be_replayed_from_its_record(name: str) -> None:
    passed = [record for record in read([RESULTS / name / "records.jsonl"]) if record.evaluation.status is Status.PASSED]
    assert passed
    for record in passed:
        receipt = receipt_of(record)
        stated = receipt["problem"]
        problem = problem_from_source(stated["source"], problem_id=stated["problem_id"])
        _require_unchanged(Candidate(**receipt["candidate"]), problem, record.evaluation, stated)


def test_a_record_that_cannot_be_replayed_says_why_and_one_without_a_receipt_is_left_out(tmp_path: Path) -> None:
    lines = (RESULTS / "examples-cpu" / "records.jsonl").read_text(encoding="utf-8").splitlines()
    record = json.loads(lines[0])
    record["source"] += "# changed"
    record["extra"]["receipt"].get("candidate", {}).pop("source", None)
    bare = {**record, "problem_id": "other", "extra": {}}
    path = tmp_path / "records.jsonl"
    path.write_text("\n".join(map(json.dumps, (record, bare))) + "\n")
    with LocalEvaluator(tmp_path / "home") as evaluator:
        (found,) = replays(read([path]), evaluator, seconds=60.0)
        assert found["agrees"] is None and "hash" in found["error"]
        assert list(replays(read([path]), evaluator, seconds=-1.0)) == []
    assert main([str(path), "--only", "nothing", "--records", str(tmp_path / "out.jsonl")]) == 1
