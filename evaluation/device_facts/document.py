"""The knowledge document of measured figures, written from records alone: every number with its interval, the device and the date; advice with its verdict."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from evaluation.device_facts.groups import Advice, Group
from evaluation.device_facts.records import GroupRecord
from evaluation.device_facts.summary import ALLOWANCE, Figure, failures

WORTH = 1.02
"""Least gain that counts: advice held if the whole interval lies above it."""
_WORDS = {"x": "times", "host us": "us on the host", "us": "us", "error": "relative error"}


def verdict(figure: Figure | None) -> str:
    """Return what became of a piece of advice, given the figure of its arm against the baseline."""
    if figure is None:
        return "not measured"
    if figure.interval.low >= WORTH:
        return "held"
    if figure.interval.high < 1 / WORTH:
        return "did not hold: slower"
    if figure.interval.high < WORTH:
        return "did not hold: no effect"
    return "undecided"


def document(
    records: Sequence[GroupRecord], found: Mapping[str, Figure], groups: Mapping[str, Group], *, source: str, target: str, chip: str
) -> str:
    """Return the document in Markdown.

    Args:
        records: Of one session or several on one device; they are not empty.
        found: Their figures by name.
        groups: By name, in the order of the document.
        source: Path of the records from the root of the repository.
        target: The target that the figures hold for.
        chip: How readers call the device, for headings.
    """
    environment, dates = records[-1].environment, sorted({record.started[:10] for record in records})
    versions = ", ".join(f"{name} {environment[name]}" for name in ("torch", "triton", "cuda", "driver") if environment.get(name))
    device, failed = str(environment["device"]), failures(records)
    lines = [
        "---",
        f'title: "{chip}: measured bandwidths, latencies, matrix rates, overheads, and what advice is worth"',
        "kind: hardware",
        f'targets: ["{target}"]',
        "trust: measured",
        f'sources: ["{source}"]',
        "see_also: [memory.md, roofline.md, tensor_cores.md, memory_bound.md]",
        "---",
        "",
        f"# {chip}: measured figures",
        "",
        f"Measured on {device}, {' and '.join(dates)} ({versions}); written by `python -m evaluation.device_facts document` from the records named above. "
        "Each value is the median over passes over all groups, with its 95 % bootstrap interval in brackets.",
        "",
    ]
    measured = [group for group in groups.values() if any(figure.group == group.name for figure in found.values())]
    if rows := [(group, advice) for group in measured for advice in group.advice]:
        lines += [f"## {chip}: which advice held", "", "| advice | gain measured | verdict | where |", "|---|---|---|---|"]
        lines += [_advice_row(group, advice, found) for group, advice in rows]
        rule = f"Held: the whole interval lies above {WORTH:g}. Gain: time of the baseline over time with the advice; the baseline is the first row of each table."
        lines += ["", rule, ""]
    for group in measured:
        lines += _section(group, [figure for figure in found.values() if figure.group == group.name], chip)
    if failed:
        lines += [f"## {chip}: what could not be measured", "", "| figure | reason |", "|---|---|"]
        lines += [f"| {name} | {_cell(error)} |" for name, error in failed.items()]
        lines.append("")
    allowances = ", ".join(f"{unit} {share:.0%}" for unit, share in ALLOWANCE.items())
    lines += [
        f"## {chip}: how far another day may differ",
        "",
        "A figure agrees with another day if that day's value lies within the spread between passes, taken as a prediction interval, "
        f"and at least within these shares of the value (by unit): {allowances}. `python -m evaluation.device_facts compare` lists what does not.",
        "",
    ]
    return "\n".join(lines)


def _advice_row(group: Group, advice: Advice, found: Mapping[str, Figure]) -> str:
    figure = found.get(f"{group.name}/{advice.arm} [x]")
    gain = f"{_bounded(figure)} times" if figure else ""
    return f"| {advice.text} | {gain} | {verdict(figure)} | {group.title.lower()} |"


def _section(group: Group, found: Sequence[Figure], chip: str) -> Iterable[str]:
    own = [figure for figure in found if figure.unit != "x"]
    against = {figure.arm: figure for figure in found if figure.unit == "x"}
    own.sort(key=lambda figure: figure.arm != group.baseline)
    head = f"| case | measured | gain over {group.baseline} |" if against else "| case | measured |"
    yield from (
        f"## {chip}: {group.title[0].lower() + group.title[1:]}",
        "",
        group.text,
        "",
        head,
        "|---|---|---|" if against else "|---|---|",
    )
    for figure in own:
        gain = f" {_bounded(against[figure.arm])} times |" if figure.arm in against else " |" if against else ""
        yield f"| {figure.arm} | {_bounded(figure)} {_WORDS.get(figure.unit, figure.unit)} |{gain}"
    yield ""


def _bounded(figure: Figure) -> str:
    """Return the value and its interval with three figures, the interval with four where it would vanish."""
    return f"{_number(figure.value)} [{_number(figure.interval.low)}, {_number(figure.interval.high)}]"


def _number(value: float) -> str:
    if value == 0:
        return "0"
    if abs(value) < 1e-3:
        return f"{value:.2e}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "/").split())[:200]


def name_in_index(index: Path, name: str, chip: str) -> bool:
    """Add the document to the table of its folder's index if it is not named there; return whether the index changed."""
    text = index.read_text(encoding="utf-8")
    if f"({name})" in text:
        return False
    lines = text.split("\n")
    row = f"| what was measured on one {chip}, and which advice held | [measured figures]({name}) |"
    last = max(number for number, line in enumerate(lines) if line.startswith("| "))
    index.write_text("\n".join([*lines[: last + 1], row, *lines[last + 1 :]]), encoding="utf-8")
    return True
