"""Whether two days agree: the share of figures whose value on the second day lies in the interval that the first day stated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from evaluation.device_facts.summary import Figure

GOAL = 0.90


@dataclass(frozen=True)
class Agreement:
    """Two days beside each other."""

    agreeing: tuple[str, ...]
    differing: tuple[str, ...]
    only_first: tuple[str, ...]
    """Figures that the second day lacks; they count neither way, and are listed."""
    only_second: tuple[str, ...]

    @property
    def share(self) -> float:
        """Share of the common figures that agree; 0.0 if there are none."""
        common = len(self.agreeing) + len(self.differing)
        return len(self.agreeing) / common if common else 0.0

    @property
    def is_reached(self) -> bool:
        """Whether the goal is reached: nine of ten agree, and the second day measured at least nine of ten figures of the first."""
        common = len(self.agreeing) + len(self.differing)
        return self.share >= GOAL and common >= GOAL * (common + len(self.only_first))


def agreement(first: Mapping[str, Figure], second: Mapping[str, Figure]) -> Agreement:
    """Compare the figures of two days by name."""
    common = [name for name in first if name in second]
    inside = {name for name in common if first[name].stated.low <= second[name].value <= first[name].stated.high}
    return Agreement(
        tuple(name for name in common if name in inside),
        tuple(name for name in common if name not in inside),
        tuple(name for name in first if name not in second),
        tuple(name for name in second if name not in first),
    )


def report(first: Mapping[str, Figure], second: Mapping[str, Figure]) -> str:
    """Return the comparison in Markdown."""
    found = agreement(first, second)
    common = len(found.agreeing) + len(found.differing)
    lines = [
        f"{len(found.agreeing)} of {common} figures agree ({found.share:.0%}; the goal is {GOAL:.0%}): the second day's value lies in the interval that the first stated.",
        "",
    ]
    if found.differing:
        lines += ["| figure | first | stated interval | second | ratio |", "|---|---|---|---|---|"]
        for name in found.differing:
            one, two = first[name], second[name]
            ratio = f"{two.value / one.value:.3f}" if one.value else ""
            lines.append(f"| {name} | {one.value:.4g} | {one.stated.low:.4g} to {one.stated.high:.4g} | {two.value:.4g} | {ratio} |")
        lines.append("")
    for title, names in (("Only on the first day", found.only_first), ("Only on the second day", found.only_second)):
        if names:
            lines += [f"{title}: {', '.join(names)}.", ""]
    return "\n".join(lines)
