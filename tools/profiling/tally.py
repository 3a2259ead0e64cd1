"""Sums over launches, kernel by kernel, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from tools.profiling.types import Figure, Group, KernelKind, KernelProfile, Missing
from tools.types import Evidence

MAX_KERNELS = 2000
MAX_FIGURES = 600
MAX_REMARKS = 20
OTHERS = "(other kernels)"
"""Under this name the kernels beyond the bound are counted together."""

How = Literal["sum", "mean", "max", "min"]
"""How launches combine: counts and bytes add up, fractions are means weighted by time, sizes and registers are the same each time (the largest counts)."""


@dataclass(frozen=True)
class Observation:
    """One figure of one launch."""

    name: str
    value: float
    unit: str
    source: str
    group: Group = "other"
    how: How = "sum"


class _Sum:
    __slots__ = ("first", "total", "weight")

    def __init__(self, first: Observation) -> None:
        self.first = first
        self.total = 0.0
        self.weight = 0.0

    def add(self, value: float, weight: float) -> None:
        if self.first.how == "sum":
            self.total += value
        elif self.first.how == "mean":
            self.total += value * weight
            self.weight += weight
        elif self.weight == 0.0:
            self.total, self.weight = value, 1.0
        else:
            self.total = max(self.total, value) if self.first.how == "max" else min(self.total, value)

    def figure(self, evidence: Evidence) -> Figure:
        value = self.total / self.weight if self.first.how == "mean" and self.weight else self.total
        return Figure(self.first.name, value, self.first.unit, self.first.source, self.first.group, evidence)


class _Kernel:
    __slots__ = ("kind", "launches", "limiter", "remarks", "sums")

    def __init__(self, kind: KernelKind) -> None:
        self.kind = kind
        self.launches = 0
        self.limiter = ""
        self.sums: dict[tuple[str, str], _Sum] = {}
        self.remarks: dict[str, None] = {}


class Tally:
    """Collects launches; `kernels` gives the record."""

    def __init__(self, evidence: Evidence = Evidence.MEASURED) -> None:
        self._evidence = evidence
        self._kernels: dict[tuple[str, KernelKind], _Kernel] = {}
        self._overflowed = 0
        self._cut_figures = 0

    def add(
        self,
        name: str,
        observations: Iterable[Observation],
        *,
        kind: KernelKind = "kernel",
        launches: int = 1,
        weight: float = 1.0,
        limiter: str = "",
        remarks: Iterable[str] = (),
    ) -> None:
        """Add a launch (or several that were summed before).

        Args:
            weight: Of means, its time in µs where that is known; at least a tiny positive number is used.
        """
        kernel = self._of(name, kind)
        kernel.launches += launches
        kernel.limiter = limiter or kernel.limiter
        for remark in remarks:
            if len(kernel.remarks) < MAX_REMARKS:
                kernel.remarks[remark[:400]] = None
        for observation in observations:
            key = (observation.name, observation.source)
            held = kernel.sums.get(key)
            if held is None:
                if len(kernel.sums) >= MAX_FIGURES:
                    self._cut_figures += 1
                    continue
                held = kernel.sums[key] = _Sum(observation)
            held.add(observation.value, max(weight, 1e-9))

    def __len__(self) -> int:
        return len(self._kernels)

    def kernels(self) -> tuple[KernelProfile, ...]:
        """Return what was collected, longest first, ties by name."""
        found = [
            KernelProfile(
                name=name,
                kind=kind,
                launches=kernel.launches,
                figures=tuple(held.figure(self._evidence) for held in kernel.sums.values()),
                limiter=kernel.limiter,
                remarks=tuple(kernel.remarks),
            )
            for (name, kind), kernel in self._kernels.items()
        ]
        return tuple(sorted(found, key=lambda kernel: (-kernel.time_us, kernel.name)))

    def missing(self) -> tuple[Missing, ...]:
        """Return what did not fit."""
        found = []
        if self._overflowed:
            found.append(
                Missing(
                    "kernels",
                    "bounded",
                    f"{self._overflowed:,} launches of kernels beyond the first {MAX_KERNELS:,} names are counted as {OTHERS!r}",
                )
            )
        if self._cut_figures:
            found.append(
                Missing("figures", "bounded", f"{self._cut_figures:,} values beyond {MAX_FIGURES} figures of one kernel were left out")
            )
        return tuple(found)

    def _of(self, name: str, kind: KernelKind) -> _Kernel:
        key = (name[:2000], kind)
        held = self._kernels.get(key)
        if held is None:
            if len(self._kernels) >= MAX_KERNELS:
                self._overflowed += 1
                key = (OTHERS, kind)
            held = self._kernels.setdefault(key, _Kernel(kind))
        return held
