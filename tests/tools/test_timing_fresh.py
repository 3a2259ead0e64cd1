"""Whether claimed times hold on inputs that nobody has seen: planted numbers, and an exploit whose gain no load can hide."""

from __future__ import annotations

import pytest

from tools.timing.fresh import FreshCalls, Sweeps, num_draws


def calls(
    device: str, claimed_ms: float, own_s: list[float], *, processor: tuple[float, float] | None = None, draws: int = 8
) -> FreshCalls:
    """A baseline of 2 ms by both clocks, copying of 1 ms a sweep; `processor`: claimed ms and a sweep's s by the second clock."""
    found = FreshCalls(device, draws, Sweeps(claimed_ms, 2.0), Sweeps(processor[0], 2.0) if processor else None)
    for seconds in own_s:
        found.wall.add(0.001, 0.001 + draws * 0.002)
        found.wall.own_s.append(seconds)
        if found.processor is not None and processor is not None:
            found.processor.add(0.001, 0.001 + draws * 0.002)
            found.processor.own_s.append(processor[1])
    return found


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_call_that_takes_what_is_claimed_is_believed(device: str) -> None:
    assert calls(device, 1.0, [0.001 + 8 * 0.001, 0.001 + 8 * 0.0011]).complaint() == ""


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_claim_that_fresh_inputs_do_not_confirm_is_none(device: str) -> None:
    assert "results are kept" in calls(device, 0.1, [0.001 + 8 * 0.002, 0.001 + 8 * 0.0021]).complaint()


def test_a_disturbed_sweep_counts_only_if_all_are() -> None:
    assert calls("cuda", 1.0, [0.5, 0.001 + 8 * 0.001]).complaint() == ""


def test_what_fresh_inputs_cost_the_baseline_they_may_cost_the_candidate() -> None:
    found = FreshCalls("cuda", 4, Sweeps(1.0, 2.0))
    found.wall.add(0.001, 0.001 + 4 * 0.006)
    found.wall.own_s.append(0.001 + 4 * 0.004)
    assert found.complaint() == ""


def test_on_a_loaded_machine_processor_time_decides() -> None:
    slow = [0.3, 0.2]
    assert calls("cpu", 1.0, slow, processor=(1.0, 0.001 + 8 * 0.001)).complaint() == ""
    assert calls("cpu", 0.1, slow, processor=(0.1, 0.001 + 8 * 0.002)).complaint()


def test_processor_time_excuses_only_what_was_waited_for() -> None:
    found = calls("cpu", 1.0, [8 * 0.005], processor=(5.0, 8 * 0.005))
    found.in_place = True
    for waited_s, is_believed in ((0.0, False), (8 * 0.004, True)):
        found.waited_s = [waited_s]
        assert (found.complaint() == "") is is_believed


def test_a_call_in_place_owes_nothing_to_copying() -> None:
    found = FreshCalls("cpu", 8, Sweeps(0.2, 2.0), in_place=True)
    found.wall.add(0.016, 8 * 0.002)
    found.wall.own_s.append(8 * 0.002)
    assert "results are kept" in found.complaint()
    found.in_place = False
    assert found.complaint() == ""


def test_on_a_quiet_machine_threads_that_spin_are_no_work() -> None:
    assert calls("cpu", 1.0, [0.001 + 8 * 0.001], processor=(1.0, 0.1)).complaint() == ""


@pytest.mark.parametrize(
    ("nbytes", "eager_ms", "expected"),
    [(1000, 0.01, 8), (1000, 1.0, 6), (1000, 4.0, 2), (24 << 20, 0.1, 4), (90 << 20, 0.1, 2), (300 << 20, 0.1, 1), (3 << 30, 0.1, 0)],
)
def test_large_inputs_take_fewer_draws(nbytes: int, eager_ms: float, expected: int) -> None:
    assert num_draws(nbytes, eager_ms) == expected


def rehearsed(claimed_ms: float, rounds: list[tuple[float, float]]) -> FreshCalls:
    """Sweeps in place of 8 calls beside a baseline of 2 ms; rounds: ms a call of the baseline and of the candidate."""
    found = FreshCalls("cpu", 8, Sweeps(claimed_ms, 2.0), in_place=True, is_rehearsed=True)
    for eager_ms, own_ms in rounds:
        found.wall.add(0.001, 8 * eager_ms / 1000.0)
        found.wall.own_s.append(8 * own_ms / 1000.0)
    return found


def test_one_slow_sweep_of_the_baseline_excuses_nobody() -> None:
    disturbed = rehearsed(0.1, [(40.0, 1.5)])
    assert disturbed.complaint() == "" and not disturbed.is_settled
    assert rehearsed(0.1, [(40.0, 1.5), (2.1, 1.5)]).complaint()


def test_a_claim_that_holds_by_itself_takes_one_round() -> None:
    assert rehearsed(1.0, [(2.0, 1.1)]).is_settled


def test_a_baseline_that_blocks_found_slow_asks_no_more_of_the_candidate() -> None:
    """Blocks were disturbed, sweeps were not: 0.015 ms in place of 2; that says nothing about the candidate."""
    assert rehearsed(1.0, [(0.015, 1.4)]).complaint() == ""


def test_where_others_use_the_processors_one_round_confirms_nothing() -> None:
    found = rehearsed(1.0, [(2.0, 1.0)])
    assert found.is_settled
    found.is_crowded = True
    assert not found.is_settled
    assert rehearsed(1.0, [(2.0, 1.0)] * 3).is_settled


def test_rounds_end_where_no_claim_holds() -> None:
    found = rehearsed(1.0, [(2.0, 1.9)] * 7)
    assert found.complaint() and not found.is_settled
    found.wall.add(0.001, 8 * 0.002)
    found.wall.own_s.append(8 * 0.0019)
    assert found.is_settled


def test_a_claim_that_is_far_off_takes_fewer_rounds() -> None:
    assert not rehearsed(0.1, [(2.0, 1.9)] * 5).is_settled
    assert rehearsed(0.1, [(2.0, 1.9)] * 6).is_settled
    assert not rehearsed(0.6, [(2.0, 1.9)] * 3).is_settled


def test_spinning_beside_threads_that_wait_is_doubtful_and_no_accusation() -> None:
    """OpenMP's threads spin while one of them has no processor: much processor time, and no wall time but what was waited for."""
    found = calls("cpu", 1.0, [8 * 0.005], processor=(1.0, 8 * 0.004))
    found.in_place = True
    for waited_s, is_doubtful in ((0.0, False), (8 * 0.004, True)):
        found.waited_s = [waited_s]
        assert found.complaint() and found.is_doubtful is is_doubtful
