"""Published results measured once more on this machine: the receipts that records keep, replayed as `kevolve replay` does.

`python -m evaluation.replay_records RECORDS.jsonl --only kernelbench:1/40 --records FILE` appends one JSON line for each record: what it said then and what came
out now, line by line, whether the two agree, and what differs between the machines.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from evaluation.records import Record, latest, read
from tools.errors import ToolsError
from tools.evaluator import LocalEvaluator
from tools.receipts import finite, host_facts
from tools.replay import replay_receipt
from tools.selftest.runner import append_record
from tools.types import Status


def receipt_of(record: Record) -> dict[str, Any]:  # Any: JSON
    """Return the whole receipt of a record, which keeps the evaluation and the candidate's source apart from it; empty if it has none."""
    kept = record.extra.get("receipt")
    if not isinstance(kept, Mapping) or not kept:
        return {}
    candidate = {**kept.get("candidate", {})}
    candidate.setdefault("source", record.source)
    return {**kept, "candidate": candidate, "evaluation": dict(record.best)}


def replays(
    records: Sequence[Record], evaluator: LocalEvaluator, *, seconds: float, target: str = ""
) -> Iterator[dict[str, Any]]:  # Any: JSON
    """Replay the passed records, latest of each problem, and yield what became of each; none starts after so many seconds."""
    began = time.monotonic()
    for record in latest(records).values():
        receipt = receipt_of(record)
        if record.evaluation.status is not Status.PASSED or not receipt:
            continue
        if time.monotonic() - began > seconds:
            return
        started = time.monotonic()
        found: dict[str, Any] = {"suite": "replay", "problem_id": record.problem_id, "candidate_id": record.evaluation.candidate_id}
        try:
            evaluation, lines = replay_receipt(evaluator, receipt, target)
        except ToolsError as err:
            yield {**found, "agrees": None, "error": f"{type(err).__name__}: {err}", "seconds": time.monotonic() - started}
            continue
        shown = [dataclasses.asdict(line) for line in lines]
        agrees = all(line.agrees for line in lines if line.is_decisive)
        yield {
            **found, "agrees": agrees, "error": evaluation.reason, "status": evaluation.status.value, "latency_ms_then": record.evaluation.latency_ms,
            "latency_ms_now": evaluation.latency_ms, "labels_now": list(evaluation.labels), "lines": shown, "seconds": time.monotonic() - started,
        }  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Replay; returns 0 if every replay agrees."""
    parser = argparse.ArgumentParser(prog="python -m evaluation.replay_records", description=__doc__)
    parser.add_argument("results", type=Path, nargs="+", help="results files of `kevolve bench`")
    parser.add_argument("--only", default="", help="problems, separated by commas (default: all)")
    parser.add_argument("--target", default="", help="another target than the records'")
    parser.add_argument("--records", type=Path, required=True, help="a .jsonl file to append to")
    parser.add_argument("--seconds", type=float, default=300.0, help="start no replay after so many seconds")
    parser.add_argument("--home", type=Path, default=None, help="state directory (default: a temporary one)")
    options = parser.parse_args(arguments)
    wanted = {name for name in options.only.split(",") if name}
    chosen = [record for record in read(options.results) if not wanted or record.problem_id in wanted]
    host = {**host_facts(), "command": ["python", "-m", "evaluation.replay_records", *(arguments or sys.argv[1:])]}
    verdicts = []
    with tempfile.TemporaryDirectory() as folder, LocalEvaluator(options.home or Path(folder)) as evaluator:
        for item in replays(chosen, evaluator, seconds=options.seconds, target=options.target):
            append_record(options.records, dict(finite({**item, "host": host})))
            verdicts.append(item["agrees"])
            differing = [line["name"] for line in item.get("lines", ()) if not line["agrees"]]
            sys.stdout.write(
                f"{item['problem_id']}: {'agrees' if item['agrees'] else 'does not agree'}; different: {', '.join(differing) or 'nothing'}\n"
            )
            sys.stdout.flush()
    return 0 if verdicts and all(verdicts) else 1


if __name__ == "__main__":
    raise SystemExit(main())
