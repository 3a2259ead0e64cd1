"""Linux perf counters of a whole program on the CPU (`perf stat -x,`). Counters that the machine does not offer are named as missing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tools.profiling.numerals import number
from tools.profiling.types import Figure, Group, Missing, PassRecord, Profile

_EVENTS: dict[str, tuple[str, float, str, Group]] = {
    "task-clock": ("cpu_time_us", 1e3, "us", "time"),
    "cycles": ("cycles", 1.0, "1", "time"),
    "instructions": ("instructions", 1.0, "1", "instruction"),
    "cache-misses": ("last_level_misses", 1.0, "1", "traffic"),
    "L1-dcache-load-misses": ("l1_load_misses", 1.0, "1", "traffic"),
    "branch-misses": ("branch_misses", 1.0, "1", "stall"),
    "page-faults": ("page_faults", 1.0, "1", "stall"),
    "context-switches": ("context_switches", 1.0, "1", "stall"),
}


def perf_command(log: Path) -> list[str]:
    """Return the command up to the program."""
    return ["perf", "stat", "-x", ",", "-o", str(log), "-e", ",".join(_EVENTS), "--"]


def profile_of_perf(text: str) -> Profile:
    """Return the counters of the whole process, its start and warm-up included: good for ratios, not for one call."""
    figures: dict[str, Figure] = {}
    unsupported: list[str] = []
    for line in text.splitlines():
        cells = line.split(",")
        if len(cells) < 3 or line.startswith("#"):
            continue
        event = cells[2].split(":")[0]
        known = _EVENTS.get(event)
        value = number(cells[0])
        if known is None:
            continue
        if value is None:
            unsupported.append(event)
            continue
        name, scale, unit, group = known
        figures[name] = Figure(name, value * scale, unit, f"perf {event}, whole process", group)
    _ratio(figures, "instructions_per_cycle", "instructions", "cycles")
    missing: Sequence[Missing] = ()
    if unsupported:
        missing = (Missing(f"perf {', '.join(unsupported)}", "unsupported", "the machine (often a virtual one) offers no such counter"),)
    elif not figures:
        missing = (Missing("perf", "empty", "perf wrote no counter"),)
    status = "collected" if figures and not unsupported else "partial" if figures else "failed"
    return Profile(
        target="cpu",
        passes=(
            PassRecord(
                "perf",
                "perf stat",
                "collected" if status == "collected" else "partial" if figures else "failed",
                detail="counts the whole process, start and warm-up included",
            ),
        ),
        host=tuple(figures.values()),
        missing=tuple(missing),
    )


def _ratio(figures: dict[str, Figure], name: str, top: str, bottom: str) -> None:
    if top in figures and bottom in figures and figures[bottom].value:
        figures[name] = Figure(name, figures[top].value / figures[bottom].value, "1", f"derived: {top} / {bottom}", "rate")
