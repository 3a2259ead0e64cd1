"""Write the table of the self-test by family from its raw records, and say what was not as expected.

`python -m evaluation.selftest_table RECORDS.jsonl …` prints Markdown; of several records of one fixture on one target the last one counts.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evaluation.errors import RecordError

Findings = dict[tuple[str, str], Mapping[str, Any]]  # Any: JSON; keyed by target and fixture


def read_findings(paths: Sequence[Path]) -> Findings:
    """Return the last record of each fixture on each target.

    Raises:
        RecordError: A line is not a record of the self-test.
    """
    found: Findings = {}
    for path in paths:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
                found[str(record["target"]), str(record["name"])] = record
                _ = record["family"], record["complaint"], record["got"], record["environment"]
            except (ValueError, KeyError, TypeError) as err:
                raise RecordError(f"{path}:{number}: not a record of the self-test: {err}") from err
    return found


def table(found: Findings) -> str:
    """Return Markdown: one row per family, one pair of columns per target, then every verdict that was not as expected."""
    targets = sorted({target for target, _ in found})
    cells: dict[str, dict[str, list[bool]]] = defaultdict(lambda: defaultdict(list))
    for (target, _), record in found.items():
        for family in (str(record["family"]), "all"):
            cells[family][target].append(not record["complaint"])
    rows = [f"| family | {' | '.join(f'{target}: as expected' for target in targets)} |", "|---" * (len(targets) + 1) + "|"]
    for family in [*sorted(set(cells) - {"all"}), *(["all"] if cells else [])]:
        shown = [f"{sum(cells[family][target])} of {len(cells[family][target])}" if cells[family][target] else "" for target in targets]
        rows.append(f"| {family} | {' | '.join(shown)} |")
    notes = [
        f"- {target} {record['id']} {name}: {record['complaint']}"
        for (target, name), record in sorted(found.items())
        if record["complaint"]
    ]
    return "\n".join([*rows, "", *(notes or ["Every verdict is as expected."]), "", *_where(found)]) + "\n"


def _where(found: Findings) -> list[str]:
    lines = set()
    for (target, _), record in found.items():
        device, host = record["environment"]["device"], record["environment"]["host"]
        versions = [f"{name} {device[name]}" for name in ("torch", "triton", "cuda") if device.get(name)]
        versions.append(f"python {host.get('python', '?')}")
        lines.add(f"- {target}: {device.get('device', 'device not told')}, {', '.join(versions)}")
    return sorted(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m evaluation.selftest_table", description=__doc__)
    parser.add_argument("records", type=Path, nargs="+")
    sys.stdout.write(table(read_findings(parser.parse_args(arguments).records)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
