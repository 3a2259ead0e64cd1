"""Two arms of an experiment on the same problems: what one gives over the other, problem by problem and on the whole.

An arm is a label of the records, for example `with-kernels` and `without-kernels`. Only problems that both have count; the others are named.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from evaluation.aggregate import geometric_mean, summarise
from evaluation.cells import interval_cell, number_cell, table
from evaluation.records import Record, latest
from evaluation.simplified import relative
from tools.types import Evaluation, Status

_BASELINES = ("eager", "compiled", "strongest")


def side_by_side(records: Sequence[Record], label: str, against: str) -> str:
    """Return a section that compares the arm `label` with the arm `against`; their common problems alone.

    Args:
        records: Raw records of both; where a problem occurs twice under one label, the last counts.
        label: The arm whose gain is asked for.
        against: The arm that it is compared with.
    """
    arms = {name: {item.problem_id: item for item in latest(records).values() if item.label == name} for name in (label, against)}
    ours, theirs = arms[label], arms[against]
    common = sorted(ours.keys() & theirs.keys())
    names = [_shown(label), _shown(against)]
    head = f"## {names[0]} beside {names[1]}"
    alone = [
        f"Only under {_shown(name)}: {', '.join(sorted(arms[name].keys() - set(common)))}."
        for name in (label, against)
        if arms[name].keys() - set(common)
    ]
    if not common:
        return "\n".join([head, "No problem was recorded under both.", *alone, ""])
    pairs = [(ours[problem], theirs[problem]) for problem in common]
    return "\n\n".join([head, _knowledge(pairs, names), _means(pairs, names), _gains(pairs, names), _rows(pairs, names), *alone, ""])


def _shown(label: str) -> str:
    return f"`{label}`" if label else "`(no label)`"


def _knowledge(pairs: Sequence[tuple[Record, Record]], names: Sequence[str]) -> str:
    lines = []
    for place, name in enumerate(names):
        found = sorted({_known(pair[place].extra.get("knowledge")) for pair in pairs})
        lines.append(f"- Knowledge of {name}: {'; '.join(found)}")
    return "\n".join(lines)


def _known(knowledge: Mapping[str, Any] | None) -> str:  # Any: JSON
    if knowledge is None:
        return "not recorded"
    return (
        f"{knowledge['kernel_documents']} kernel documents ({knowledge['kernel_hash']}) of {knowledge['documents']} documents"
        if knowledge["kernel_documents"]
        else f"no kernel documents, {knowledge['documents']} documents"
    )


def _means(pairs: Sequence[tuple[Record, Record]], names: Sequence[str]) -> str:
    header = ["over", *(f"{name}: {what}" for name in names for what in ("passed", "geometric mean (failures as 1.0)", "wins", "losses"))]
    rows = []
    for baseline in _BASELINES:
        cells = [baseline]
        for place in (0, 1):
            found = summarise([pair[place].evaluation for pair in pairs], baseline)
            cells += [
                f"{found.num_passed} of {found.num_problems}",
                number_cell(found.geometric_mean_with_failures),
                str(found.num_wins),
                str(found.num_losses),
            ]
        rows.append(cells)
    return table(header, rows)


def _gains(pairs: Sequence[tuple[Record, Record]], names: Sequence[str]) -> str:
    gains = [gain for one, other in pairs if (gain := relative(one.evaluation, other.evaluation)) is not None]
    if not gains:
        return "No problem passed and was timed under both."
    better, worse = sum(gain.low > 1 for gain in gains), sum(gain.high < 1 for gain in gains)
    return (
        f"{names[0]} over {names[1]}: geometric mean {geometric_mean([gain.value for gain in gains]):.2f} of the {len(gains)} problems that passed under both; "
        f"faster on {better}, slower on {worse} (whole interval), not told apart on {len(gains) - better - worse}."
    )


def _rows(pairs: Sequence[tuple[Record, Record]], names: Sequence[str]) -> str:
    header = ["problem", *(f"{name}: {what}" for name in names for what in ("over eager", "over compiled", "kernels")), "first over second"]
    rows = []
    for one, other in pairs:
        cells = [one.problem_id]
        for record in (one, other):
            evaluation = record.evaluation
            cells += [_speedup(evaluation, "eager"), _speedup(evaluation, "compiled"), kernels_of(record)]
        rows.append([*cells, interval_cell(relative(one.evaluation, other.evaluation))])
    return table(header, rows)


def _speedup(evaluation: Evaluation, baseline: str) -> str:
    if evaluation.status is not Status.PASSED:
        return evaluation.status.value
    return interval_cell(evaluation.speedup.get(baseline))


def kernels_of(record: Record) -> str:
    """Return the names of the kernel documents that the published candidate is made of; `none` if it is PyTorch's or the compiler's alone."""
    names = record.extra.get("kernels")
    if names is None:  # records from before they were named
        names = record.extra.get("receipt", {}).get("candidate", {}).get("provenance", {}).get("kernels", ())
    return ", ".join(names) or "none"
