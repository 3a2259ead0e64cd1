"""Who may use an accelerator when: checks beside each other, a timing alone, and nobody waits for ever."""

from __future__ import annotations

import fcntl
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO

import pytest

from tools.timing import exclusive
from tools.timing.exclusive import exclusive_device, shared_device

Use = Callable[[str, str], AbstractContextManager[None]]


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


def test_a_timing_that_steps_aside_lets_others_in_and_has_the_device_alone_again() -> None:
    order: list[str] = []

    def time_it() -> None:
        with exclusive_device("cuda", "0"):
            order.append("other timing")

    with exclusive_device("cuda", "0") as alone:
        other = threading.Thread(target=time_it)
        other.start()
        began = time.monotonic()
        while not order:  # it may not have asked for the device yet
            assert time.monotonic() < began + 60
            with alone.aside(), shared_device("cuda", "0"):
                time.sleep(0.01)
        other.join(60)
        late = threading.Thread(target=time_it)
        late.start()
        time.sleep(0.1)
        assert len(order) == 1
        with alone.aside(comes_back=False):
            pass
    late.join(60)
    assert len(order) == 2


def test_checks_that_keep_coming_do_not_starve_a_timing() -> None:
    assert _gets_its_turn(exclusive_device, among=shared_device)


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
    assert _gets_its_turn(shared_device, among=exclusive_device)


def _gets_its_turn(kind: Use, *, among: Use) -> bool:
    """Return whether one use of the device comes about beside four threads that use it in the other way again and again."""
    stop, done = threading.Event(), threading.Event()

    def use_again_and_again() -> None:
        while not stop.is_set():
            with among("cuda", "0"):
                time.sleep(0.03)

    def use_once() -> None:
        with kind("cuda", "0"):
            done.set()

    others = [threading.Thread(target=use_again_and_again) for _ in range(4)]
    for thread in others:
        thread.start()
    time.sleep(0.1)
    once = threading.Thread(target=use_once)
    once.start()
    is_done = done.wait(30)
    stop.set()
    for thread in [*others, once]:
        thread.join(30)
    return is_done
