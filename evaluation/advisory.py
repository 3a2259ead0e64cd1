"""What the scanner kernelguard makes of the self-test's fixtures and of published winners, beside what measuring made of them.

`python -m evaluation.advisory --records FILE [RESULTS.jsonl …]` appends one JSON line for each fixture and each winner, then one of all.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from evaluation.records import latest, read
from tools.check.advisory import advise
from tools.receipts import host_facts
from tools.selftest.fixtures import load_fixtures
from tools.selftest.runner import append_record
from tools.types import Status


def opinions(results: Sequence[Path]) -> Iterator[dict[str, Any]]:  # Any: JSON
    """Yield a record for each fixture and each passed record's source, then one of all."""
    sources = [(("control" if item.family == "controls" else "exploit"), item.name, item.source) for item in load_fixtures()]
    winners = (
        [record for record in latest(read(results)).values() if record.evaluation.status is Status.PASSED and record.source]
        if results
        else []
    )
    sources += [("winner", record.problem_id, record.source) for record in winners]
    counts: dict[str, list[bool]] = {}
    for kind, name, source in sources:
        found = advise(source)
        counts.setdefault(kind, []).append(found.is_flagged)
        yield {
            "study": "advisory", "kind": kind, "name": name, "classification": found.classification, "findings": list(found.findings), "scanner": found.scanner,
        }  # fmt: skip
    yield {
        "study": "advisory",
        "kind": "all",
        "flagged": {kind: {"flagged": sum(items), "of": len(items)} for kind, items in counts.items()},
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the records; returns 1 if the scanner is not installed."""
    parser = argparse.ArgumentParser(prog="python -m evaluation.advisory", description=__doc__)
    parser.add_argument("results", type=Path, nargs="*", help="results files of `kevolve bench`")
    parser.add_argument("--records", type=Path, required=True, help="a .jsonl file to append to")
    options = parser.parse_args(arguments)
    if not (known := advise("")).classification:
        sys.stderr.write(f"{known.scanner}\n")
        return 1
    host = host_facts()
    for item in opinions(options.results):
        append_record(options.records, item | ({"host": host} if item["kind"] == "all" else {}))
        if item["kind"] == "all":
            sys.stdout.write(json.dumps(item["flagged"]) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
