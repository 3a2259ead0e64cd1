"""Who may use an accelerator when: checks beside each other, a timing alone, and nobody waits for ever."""

from __future__ import annotations

import fcntl
import threading
import time
from pathlib import Path
from typing import IO

import pytest

from tools.timing import exclusive
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


def test_timings_that_wait_go_before_a_check_that_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    queued = threading.Semaphore(0)
    lock = exclusive._lock

    def told(file: IO[str], kind: int, deadline: float) -> None:
        if kind == fcntl.LOCK_EX:  # a timing that nothing but another timing holds up
            queued.release()
        lock(file, kind, deadline)

    monkeypatch.setattr(exclusive, "_lock", told)

    def time_it() -> None:
        with exclusive_device("cuda", "0"):
            order.append("timing")
            if len(order) == 1:
                others[0].start()
                others[1].start()
                assert queued.acquire(timeout=60)

    def check() -> None:
        with shared_device("cuda", "0"):
            order.append("check")

    others = [threading.Thread(target=check), threading.Thread(target=time_it)]
    first = threading.Thread(target=time_it)
    first.start()
    assert queued.acquire(timeout=60)
    for thread in [first, *others]:
        while not thread.ident:
            time.sleep(0.01)
        thread.join(60)
    assert order == ["timing", "timing", "check"]


def test_timings_that_keep_coming_do_not_starve_a_check(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tools.timing.exclusive._PATIENCE_S", 0.2)
    stop, checked = threading.Event(), threading.Event()

    def time_again_and_again() -> None:
        while not stop.is_set():
            with exclusive_device("cuda", "0"):
                time.sleep(0.03)

    def check() -> None:
        with shared_device("cuda", "0"):
            checked.set()

    timings = [threading.Thread(target=time_again_and_again) for _ in range(4)]
    for thread in timings:
        thread.start()
    time.sleep(0.1)
    checking = threading.Thread(target=check)
    checking.start()
    is_checked = checked.wait(30)
    stop.set()
    for thread in [*timings, checking]:
        thread.join(30)
    assert is_checked
