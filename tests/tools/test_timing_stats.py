"""Speed-up statistics against hand calculations, and the false signals that they must not produce."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tools.timing.stats import combine, geometric_mean, median_ms, paired_speedup
from tools.types import Interval


def test_a_candidate_twice_as_fast_in_every_pair_is_exactly_two() -> None:
    speedup = paired_speedup([4.0, 6.0, 2.0], [2.0, 3.0, 1.0], np.random.default_rng(0))
    assert (speedup.value, speedup.low, speedup.high) == pytest.approx((2.0, 2.0, 2.0))


def test_equal_arms_with_noise_claim_a_win_seldom() -> None:
    wins = 0
    for seed in range(100):
        generator = np.random.default_rng(seed)
        base, cand = (generator.lognormal(0.0, 0.02, 20) for _ in range(2))
        wins += paired_speedup(base.tolist(), cand.tolist(), generator).low > 1.0
    assert wins <= 8


def test_drift_common_to_both_arms_cancels() -> None:
    drift = [1.0 + 0.05 * number for number in range(20)]
    speedup = paired_speedup([1.1 * value for value in drift], drift, np.random.default_rng(0))
    assert speedup.low == pytest.approx(1.1) and speedup.high == pytest.approx(1.1)


def test_one_outlier_does_not_move_the_median() -> None:
    assert median_ms([1.0, 1.1, 0.9, 50.0, 1.0]) == 1.0


@pytest.mark.parametrize("bad", [[], [0.0], [-1.0], [math.nan], [math.inf]])
def test_times_that_cannot_be_are_refused(bad: list[float]) -> None:
    with pytest.raises(ValueError, match="positive finite"):
        median_ms(bad)


@pytest.mark.parametrize("bad", [[], [0.0, 1.0], [math.nan], [True]])
def test_a_geometric_mean_hides_no_failure(bad: list[float]) -> None:
    with pytest.raises(ValueError, match="positive finite"):
        geometric_mean(bad)


def test_combined_intervals_narrow_by_the_square_root_of_their_number() -> None:
    one = Interval(1.0, math.exp(-0.2), math.exp(0.2))
    both = combine([one, one])
    assert math.log(both.high) == pytest.approx(0.2 / math.sqrt(2))
