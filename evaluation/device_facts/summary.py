"""From samples to figures: a value, the interval that this session gives, and the interval that another day should fall into. Needs numpy.

A session measures every group in several passes over all groups. What differs between passes (clocks, temperature, placement) is not seen inside one, so the
interval resamples passes first and samples second. The stated interval is what `agreement` holds another day to: the spread between passes as a prediction
interval, and never less than the allowance of the figure's kind, which was fixed before anything was measured.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from evaluation.device_facts.records import GroupRecord
from tools.types import Interval

ALLOWANCE = {
    "GB/s": 0.05,
    "TFLOP/s": 0.06,
    "Gop/s": 0.05,
    "cycles": 0.04,
    "ns": 0.06,
    "us": 0.06,
    "host us": 0.30,
    "error": 0.05,
    "x": 0.05,
}
"""Least half-width of a stated interval, as a fraction of the value, by unit. Host times depend on the machine's processor, hence the 30 %."""
_RESAMPLES = 1000
_T = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26)
"""Two-sided 95 % quantiles of Student's t for 1 to 9 degrees of freedom."""


@dataclass(frozen=True)
class Figure:
    """One number that was measured."""

    group: str
    arm: str
    unit: str
    """`x`: how many times as fast as the baseline of the group."""
    value: float
    """Median over passes of the median of a pass."""
    interval: Interval
    """95 %, by bootstrap over passes and samples of this session."""
    stated: Interval
    """Where the value of another day should lie."""
    num_passes: int

    @property
    def name(self) -> str:
        """Return the key that two days share."""
        return f"{self.group}/{self.arm} [{self.unit}]"


def figures(records: Iterable[GroupRecord], baselines: Mapping[str, str], seed: int = 0) -> dict[str, Figure]:
    """Return the figures of a session by name: each arm's own, and each arm against its group's baseline.

    Args:
        records: All passes.
        baselines: Name of the baseline by group, for groups that compare.
        seed: Of the bootstrap.
    """
    generator = np.random.default_rng(seed)
    passes: dict[tuple[str, str, str], list[tuple[float, ...]]] = defaultdict(list)
    for record in records:
        base = record.arms.get(baselines.get(record.group, ""))
        for name, arm in record.arms.items():
            if not arm.values:
                continue
            passes[record.group, name, arm.unit].append(arm.values)
            if (
                base is not None
                and base is not record.arms[name]
                and len(base.values) == len(arm.values)
                and arm.unit == base.unit != "error"
            ):
                passes[record.group, name, "x"].append(tuple(map(_ratio(arm.unit), arm.values, base.values)))
    found = (_figure(*key, values, generator) for key, values in passes.items())
    return {figure.name: figure for figure in found}


def failures(records: Iterable[GroupRecord]) -> dict[str, str]:
    """Return why arms have no values, by `group/arm`; arms that have some in another pass are left out."""
    errors, measured = {}, set()
    for record in records:
        for name, arm in record.arms.items():
            if arm.values:
                measured.add(f"{record.group}/{name}")
            elif arm.error:
                errors[f"{record.group}/{name}"] = arm.error
    return {name: error for name, error in errors.items() if name not in measured}


def _ratio(unit: str) -> Callable[[float, float], float]:
    """Return how many times as fast one sample is as another: rates divide one way, times the other."""
    return (lambda arm, base: arm / base) if unit.endswith("/s") else (lambda arm, base: base / arm)


def _figure(group: str, arm: str, unit: str, passes: Sequence[Sequence[float]], generator: np.random.Generator) -> Figure:
    medians = np.array([np.median(values) for values in passes])
    value = float(np.median(medians))
    resampled = np.array([np.median(generator.choice(values, (_RESAMPLES, len(values))), axis=1) for values in map(np.asarray, passes)])
    chosen = generator.integers(0, len(passes), (_RESAMPLES, len(passes)))
    drawn = np.median(resampled[chosen, generator.integers(0, _RESAMPLES, chosen.shape)], axis=1)
    low, high = (float(bound) for bound in np.quantile(drawn, [0.025, 0.975]))
    interval = Interval(value=value, low=min(low, value), high=max(high, value))
    # In logarithms: a ratio of 2 and one of 1/2 are equally far from 1.
    count = len(passes)
    spread = 0.0
    if count > 1 and value > 0 and medians.min() > 0:
        spread = _T[min(count - 1, len(_T)) - 1] * float(np.std(np.log(medians), ddof=1)) * math.sqrt(1 + 1 / count)
    # Two passes give no usable estimate of a spread (t is 12.7); the allowance alone is stated then.
    factor = math.exp(max(spread if count > 2 else 0.0, math.log1p(ALLOWANCE[unit])))
    stated = Interval(value=value, low=min(value / factor, interval.low), high=max(value * factor, interval.high))
    return Figure(group, arm, unit, value, interval, stated, count)
