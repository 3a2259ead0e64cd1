"""Who may use an accelerator when: checks beside each other, a timing alone, and nobody waits for ever."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from tools.timing.exclusive import exclusive_device, shared_device


@pytest.fixture(autouse=True)
def _own_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


def test_checks_run_beside_each_other_and_a_timing_alone() -> None:
    with shared_device("cuda", "0"), shared_device("cuda", "0"):
        pass
    order: list[str] = []

    def time_it() -> None:
        with exclusive_device("cuda", "0"):
            order.append("timing")

    with shared_device("cuda", "0"):
        waiting = threading.Thread(target=time_it)
        waiting.start()
        time.sleep(0.1)
        order.append("check ends")
    waiting.join(30)
    assert order == ["check ends", "timing"]


def test_checks_that_keep_coming_do_not_starve_a_timing() -> None:
    stop, timed = threading.Event(), threading.Event()

    def check_again_and_again() -> None:
        while not stop.is_set():
            with shared_device("cuda", "0"):
                time.sleep(0.05)

    def time_it() -> None:
        with exclusive_device("cuda", "0"):
            timed.set()

    checks = [threading.Thread(target=check_again_and_again) for _ in range(4)]
    for thread in checks:
        thread.start()
    time.sleep(0.1)
    timing = threading.Thread(target=time_it)
    timing.start()
    is_timed = timed.wait(30)
    stop.set()
    for thread in [*checks, timing]:
        thread.join(30)
    assert is_timed


def test_other_accelerators_and_the_cpu_are_free_meanwhile() -> None:
    with exclusive_device("cuda", "0"), exclusive_device("cuda", "1"), exclusive_device("cpu"):
        pass
