"""A diagnosis for the coder, sharpened by what a profile's rules found: the dominant cause with its evidence, what is deferred, questions for the knowledge base."""

from __future__ import annotations

import dataclasses

from agents.types import Diagnosis
from tools.profiling.causes import ProfileDiagnosis

_BOTTLENECKS = {
    "dram_bandwidth": "memory_bandwidth", "redundant_traffic": "memory_bandwidth", "uncoalesced_access": "memory_bandwidth", "narrow_loads": "memory_bandwidth", "bank_conflicts": "memory_bandwidth",
    "register_spills": "memory_bandwidth", "host_copies": "memory_bandwidth", "layout_copies": "memory_bandwidth", "matrix_bound": "compute", "compute_bound": "compute", "no_matrix_unit": "compute", "float64_arithmetic": "compute",
    "needless_conversions": "compute", "integer_divisions": "compute", "special_functions": "compute", "issue_bound": "compute", "divergence": "compute", "dominant_operator": "compute", "own_code": "compute",
}  # fmt: skip
"""Cause to the closed set of `Diagnosis.bottleneck`; what waits for something is `latency`."""


def sharpened(diagnosis: Diagnosis, found: ProfileDiagnosis) -> Diagnosis:
    """Return the diagnosis with the profile's dominant cause in front; unchanged if the profile names none.

    Failed ideas are kept; the cause's questions come first.
    """
    cause = found.dominant
    if cause is None:
        return diagnosis
    return dataclasses.replace(
        diagnosis,
        bottleneck=_BOTTLENECKS.get(cause.name, "latency"),
        summary=f"{diagnosis.summary} {cause_text(found)}".strip(),
        questions=tuple(dict.fromkeys([*found.questions, *diagnosis.questions])),
    )


def cause_text(found: ProfileDiagnosis) -> str:
    """Return the dominant cause of a profile with its evidence, in sentences; what the rules could not tell where they name none."""
    cause = found.dominant
    if cause is None:
        unseen = ", ".join(name.replace("_", " ") for name in found.cannot_tell[:3])
        return "The profile names no dominant cause" + (f"; what it cannot see: {unseen}." if unseen else ".")
    where = f" in {cause.kernel}" if cause.kernel else ""
    seen = "" if cause.seen_by == "measured" else f" (seen in what was {cause.seen_by}, not in a run)"
    text = f"Profile: {cause.name.replace('_', ' ')}{where}{seen}. {cause.claim} Evidence: {'; '.join(cause.evidence)}."
    deferred = list(dict.fromkeys(item.name.replace("_", " ") for item in found.deferred if item.name != cause.name))[:4]
    return f"{text} Deferred: {', '.join(deferred)}." if deferred else text
