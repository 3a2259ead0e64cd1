"""The report about kills and a crowd."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from evaluation.faults.cases import OPERATIONS
from evaluation.faults.driver import KillCase


def report(cases: Sequence[KillCase], crowd: Mapping[str, Any] | None, environment: Mapping[str, str], command: str) -> str:  # Any: JSON
    """Return the report in Markdown."""
    lines = [
        "# Kills and crowds",
        "",
        f"Repeat: `{command}`",
        "",
        f"Machine: {environment['machine']}; Python {environment['python']}; {environment['place']}.",
        "",
    ]
    lines += [
        "| operation | kills | killed in time | consistent at once | mended by `check --repair` | mended by running it again | lost | doubled | stale | equal to undisturbed |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for operation in OPERATIONS:
        mine = [case for case in cases if case.operation == operation]
        consistent = sum(not case.problems for case in mine)
        mended = {
            how: sum(bool(case.problems) and not case.problems_after_mending for case in mine if case.mended_by == how)
            for how in ("repair", "again")
        }
        sums = [sum(case.lost for case in mine), sum(case.doubled for case in mine), sum(len(case.stale) for case in mine)]
        lines.append(
            f"| {operation} | {len(mine)} | {sum(case.was_killed for case in mine)} | {consistent} | {mended['repair']} | {mended['again']} | {sums[0]} | {sums[1]} | {sums[2]} | {sum(case.is_equal for case in mine)} |"
        )
    bad = [case for case in cases if not case.is_good]
    lines += ["", f"{len(cases) - len(bad)} of {len(cases)} bases survived."]
    kinds = Counter(" ".join(word for word in problem.split() if not word.isdigit()) for case in cases for problem in case.problems)
    if kinds:
        lines += [
            "",
            "What `check` found right after kills, all mended:",
            "",
            *(f"- {number} x {kind}" for kind, number in kinds.most_common()),
        ]
    if crowd is not None:
        members = crowd["members"]
        totals = {key: sum(len(member.get(key, ())) for member in members) for key in ("errors", "stale", "missing")}
        lines += [
            "",
            f"Crowd: {crowd['processes']} processes for {crowd['seconds']:.0f} s: {sum(member.get('rounds', 0) for member in members)} rounds of ingest, query, remove, query; "
            f"{sum(member.get('queries', 0) for member in members)} queries; {totals['errors']} errors, {totals['stale']} stale hits, {totals['missing']} missed documents; "
            f"afterwards `check` finds {len(crowd['problems'])} problems.",
        ]
    return "\n".join(lines) + "\n"
