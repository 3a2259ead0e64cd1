"""What a calibration says, computed again from its raw comparisons: how often a baseline's copy claims a win or a loss against it, and which slow-downs are seen.

`python -m evaluation.calibration_report RECORDS.jsonl` prints Markdown; records are those of `kevolve calibrate --records`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evaluation.errors import RecordError
from tools.timing.calibration import Comparison, summarise
from tools.types import Interval


def read_comparisons(path: Path) -> tuple[list[Comparison], Mapping[str, Any]]:  # Any: JSON
    """Return the comparisons of a file, and what its last summary says of device, host and effort (empty without one).

    Raises:
        RecordError: A line is neither.
    """
    found: list[Comparison] = []
    summary: Mapping[str, Any] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            data = json.loads(line)
            if "comparison" in data:
                item = dict(data["comparison"])
                item["speedup"] = Interval(**item["speedup"]) if item["speedup"] else None
                found.append(Comparison(**item))
            else:
                summary = {**data, "effort": data["calibration"].get("effort", "")}
        except (ValueError, KeyError, TypeError, AttributeError) as err:
            raise RecordError(f"{path}:{number}: not a record of a calibration: {err}") from err
    return found, summary


def report(found: Sequence[Comparison], summary: Mapping[str, Any]) -> str:  # Any: JSON
    """Return the report.

    Raises:
        ValueError: No plain copy was measured.
    """
    facts = summary.get("device", {})
    all_of_them = summarise(facts, found)
    lines = [
        "| copies of a baseline against it | comparisons | claim a win | claim a loss | ratio: median | least | most |",
        "|---|---|---|---|---|---|---|",
    ]
    plain = [item for item in found if not item.slow_down and item.speedup]
    for name in [*sorted({item.problem for item in plain}), ""]:
        items = [item for item in plain if not name or item.problem == name]
        ratios = [item.speedup.value for item in items if item.speedup]
        wins, losses = sum(item.claims_win for item in items), sum(item.claims_loss for item in items)
        lines.append(
            f"| {name or 'all'} | {len(items)} | {wins} | {losses} | {statistics.median(ratios):.4f} | {min(ratios):.4f} | {max(ratios):.4f} |"
        )
    lines += [
        "",
        f"By their own intervals {all_of_them.false_wins} of {all_of_them.comparisons} claim a win and {all_of_them.false_losses} a loss. Widened by the spread that the other "
        f"pairs of processes show ({all_of_them.pairs} pairs): {all_of_them.false_wins_widened} and {all_of_them.false_losses_widened}. "
        f"Spread of ln(ratio) between pairs: {all_of_them.spread:.5f}; gains below {all_of_them.minimum_effect:.2%} are not told from nothing.",
        "",
        "| slow-down asked for | really added (median) | copies | found slower | widened | problems |",
        "|---|---|---|---|---|---|",
    ]
    for share, power in all_of_them.detected.items():
        problems = sorted({item.problem for item in found if f"{item.slow_down:g}" == share and item.speedup})
        widened, added = all_of_them.detected_widened[share], all_of_them.observed[share]
        lines.append(
            f"| {float(share):.0%} | {added:.2%} | {all_of_them.copies[share]} | {power:.0%} | {widened:.0%} | {', '.join(problems)} |"
        )
    host = summary.get("host", {})
    where = [str(facts.get(name)) for name in ("device", "torch", "triton", "driver") if facts.get(name)]
    lines += [
        "",
        f"- {', '.join(where) or 'device not told'}; effort {summary.get('effort') or 'not told'}; commit {host.get('commit') or 'not told'}",
    ]
    failed = [item for item in found if not item.speedup]
    lines += [f"- not measured: {item.problem} +{item.slow_down:.0%}: {item.reason}" for item in failed]
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the report."""
    parser = argparse.ArgumentParser(prog="python -m evaluation.calibration_report", description=__doc__)
    parser.add_argument("records", type=Path)
    sys.stdout.write(report(*read_comparisons(parser.parse_args(arguments).records)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
