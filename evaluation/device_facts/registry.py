"""Every group, in the order of measuring: what the documents quote most comes first, so that a call that is cut has it."""

from __future__ import annotations

from evaluation.device_facts import effects, levels, overheads, rates

GROUPS = {group.name: group for group in (*levels.GROUPS, *overheads.GROUPS, *effects.GROUPS, *rates.GROUPS)}


def baselines() -> dict[str, str]:
    """Return the baseline of each group that compares."""
    return {group.name: group.baseline for group in GROUPS.values() if group.baseline}
