"""Statistics of paired timing: medians, ratios and bootstrap intervals. Needs numpy."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from tools.types import Interval

_RESAMPLES = 2000


def median_ms(samples_ms: Sequence[float]) -> float:
    """Return the median.

    Raises:
        ValueError: There are no samples, or one is not a positive finite number.
    """
    _require_times(samples_ms)
    return float(np.median(np.asarray(samples_ms, dtype=np.float64)))


def paired_speedup(baseline_ms: Sequence[float], candidate_ms: Sequence[float], generator: np.random.Generator) -> Interval:
    """Return the median of the paired ratios baseline / candidate with its 95 % percentile-bootstrap interval.

    Args:
        baseline_ms: Baseline latency of each pair, in ms.
        candidate_ms: Candidate latency of each pair, in ms, same length and order.
        generator: Source of the resampling.

    Raises:
        ValueError: The lengths differ or are 0, or a time is not a positive finite number.
    """
    _require_times(baseline_ms)
    _require_times(candidate_ms)
    if len(baseline_ms) != len(candidate_ms):
        raise ValueError(f"pairs need equal lengths, got {len(baseline_ms)} and {len(candidate_ms)}")
    ratios = np.log(np.asarray(baseline_ms, dtype=np.float64)) - np.log(np.asarray(candidate_ms, dtype=np.float64))
    picks = generator.integers(0, len(ratios), size=(_RESAMPLES, len(ratios)))
    medians = np.median(ratios[picks], axis=1)
    value = float(np.median(ratios))
    low, high = (float(bound) for bound in np.quantile(medians, [0.025, 0.975]))
    return Interval(value=math.exp(value), low=math.exp(min(low, value)), high=math.exp(max(high, value)))


def geometric_mean(values: Sequence[float]) -> float:
    """Return the geometric mean.

    Raises:
        ValueError: There are no values, or one is not positive and finite (a zero must never hide in a mean).
    """
    if not values or not all(
        isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and value > 0 for value in values
    ):
        raise ValueError(f"a geometric mean needs positive finite numbers, got {list(values)!r}")
    return math.exp(sum(math.log(value) for value in values) / len(values))


def combine(intervals: Sequence[Interval]) -> Interval:
    """Return the geometric mean of independent intervals; their log half-widths add in quadrature."""
    value = geometric_mean([interval.value for interval in intervals])
    down = math.sqrt(sum(math.log(item.value / item.low) ** 2 for item in intervals)) / len(intervals)
    up = math.sqrt(sum(math.log(item.high / item.value) ** 2 for item in intervals)) / len(intervals)
    return Interval(value=value, low=value * math.exp(-down), high=value * math.exp(up))


def combine_speedups(per_workload: Sequence[Mapping[str, Interval]]) -> dict[str, Interval]:
    """Return the geometric mean over workloads for each baseline that every workload has."""
    if not per_workload:
        return {}
    names = set.intersection(*(set(item) for item in per_workload))
    return {name: combine([item[name] for item in per_workload]) for name in sorted(names)}


def _require_times(samples_ms: Sequence[float]) -> None:
    if not samples_ms or not all(math.isfinite(sample) and sample > 0 for sample in samples_ms):
        raise ValueError("times must be positive finite numbers and at least one")
