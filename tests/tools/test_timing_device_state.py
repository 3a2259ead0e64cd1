"""The state of an accelerator while it was timed: what is said about readings. No device is needed."""

from __future__ import annotations

import os

from tools.timing.device_state import DeviceState, is_ending, state_labels, summarise


def test_without_a_device_nothing_is_said() -> None:
    state = DeviceState("no-such-device")
    assert state.sample() == {} and state.others() == []
    assert summarise([], []) == {} and state_labels([{}]) == ()


def test_readings_are_kept_as_least_median_and_most() -> None:
    found = summarise([{"sm_mhz": 1980.0}, {"sm_mhz": 1740.0, "watts": 650.0}, {"sm_mhz": 1965.0}], [])
    assert found["sm_mhz"] == {"least": 1740.0, "median": 1965.0, "most": 1980.0}
    assert found["watts"]["median"] == 650.0 and found["other_processes"] == []


def test_a_clock_that_moves_and_a_device_that_others_use_are_labelled() -> None:
    steady = summarise([{"sm_mhz": 1980.0}, {"sm_mhz": 1965.0}], [])
    moving = summarise([{"sm_mhz": 1980.0}, {"sm_mhz": 1740.0}], [])
    assert state_labels([steady]) == ()
    assert state_labels([steady, moving]) == ("unsteady_clocks",)
    assert state_labels([steady, summarise([], [4711])]) == ("shared_device",)


def test_what_has_only_its_end_before_it_is_nobody_who_computes() -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)  # it has ended, and is not collected yet
    assert is_ending(pid) and not is_ending(os.getpid())
    os.waitpid(pid, 0)
    assert not is_ending(99_999_999)
