"""What the rules said of the planted faults, blind: from a run, and from the compiled evidence alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

GOAL = 18


def planted_lines(diagnoses: Sequence[Mapping[str, Any]]) -> Iterator[str]:  # Any: JSON
    """Yield the section; the latest diagnosis of each kernel counts."""
    latest = {str(item["kernel"]): item for item in diagnoses}
    run = sum(1 for item in latest.values() if item["run"]["place"])
    compiled = sum(1 for item in latest.values() if item["compiled"]["place"])
    first = sum(1 for item in latest.values() if item["run"]["place"] == 1)
    yield "## Planted faults, diagnosed blind"
    yield ""
    untaken = sum(1 for item in latest.values() if not item["run"]["place"] and any(what == "ncu" for what, _, _ in item["missing"]))
    yield f"Named with everything that was measured: {run} of {len(latest)} (goal {GOAL} of 20), {first} of them as the dominant cause. Not named and without counters of Nsight Compute, which had no time left: {untaken}. Named from the compiled binary alone: {compiled}."
    yield ""
    yield "| kernel | planted | rank in the run | rank without running | dominant in the run | evidence of the planted cause |"
    yield "|---|---|---|---|---|---|"
    for name, item in latest.items():
        causes = item["run"]["causes"]
        evidence = next(("; ".join(cause[2])[:160] for cause in causes if cause[0] == item["planted"]), "")
        without = item["compiled"]["place"] or ("cannot be told" if item["compiled"]["cannot_tell"] else "not named")
        unmeasured = any(what == "ncu" for what, _, _ in item["missing"])
        place = item["run"]["place"] or ("counters not taken" if unmeasured else "missed")
        yield f"| {name} | {item['planted']} | {place} | {without} | {causes[0][0] if causes else '-'} | {evidence} |"
    unseen = sorted({str(item["planted"]) for item in latest.values() if not item["compiled"]["place"]})
    yield ""
    yield f"Cannot be seen without running: {', '.join(unseen) or 'none'}."
    failed = [f"- {name}: {what}: {kind}, {reason[:160]}" for name, item in latest.items() for what, kind, reason in item["missing"] if kind not in ("no_device",) and what != "metrics"]  # fmt: skip
    if failed:
        yield ""
        yield "Not measured:"
        yield ""
        yield from failed
