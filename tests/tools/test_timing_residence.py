"""The memory of an accelerator, shared out among evaluations."""

from __future__ import annotations

import multiprocessing
import os
import secrets
import signal
import threading
import time
from collections.abc import Callable
from multiprocessing.synchronize import Event

import pytest

from tools.timing.residence import Residence

TOTAL = 1000
"""Bytes of an invented device, of which 920 are shared out."""


def _hold(accelerator: str, num_bytes: int, told: int, leave: Event) -> None:
    with Residence(accelerator) as made:
        made.reserve(num_bytes, TOTAL)
        os.write(told, f"{num_bytes}\n".encode())
        leave.wait(60)


def test_reservations_that_fit_are_held_together_and_who_has_waited_long_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tools.timing.residence._PATIENCE_S", 0.0)
    context = multiprocessing.get_context("fork")
    reading, writing = os.pipe()
    accelerator, leave = secrets.token_hex(8), [context.Event() for _ in range(4)]
    sizes = (400, 500, 5000, 10)  # the third wants more than there is: the whole; the fourth would fit and comes later

    with os.fdopen(reading) as lines, os.fdopen(writing, "wb"):
        processes = []
        for number, size in enumerate(sizes):
            processes.append(context.Process(target=_hold, args=(accelerator, size, writing, leave[number])))
            processes[-1].start()
            if size < 5000 and number < 2:
                assert lines.readline() == f"{size}\n"
            elif number == 2:
                _until(lambda: bool(Residence(accelerator)._alive("ticket-*")))
        leave[0].set()
        os.kill(processes[1].pid or 0, signal.SIGKILL)  # what it held ends with it
        assert lines.readline() == "5000\n"
        leave[2].set()
        assert lines.readline() == "10\n"
        leave[3].set()
        for process in processes:
            process.join(60)
    assert [process.exitcode for process in processes] == [0, -signal.SIGKILL, 0, 0]


def test_a_smaller_reservation_is_had_at_once_and_frees_the_rest() -> None:
    accelerator = secrets.token_hex(8)
    with Residence(accelerator) as first, Residence(accelerator) as second:
        first.reserve(900, TOTAL)
        first.reserve(300, TOTAL)
        second.reserve(600, TOTAL)
        assert (first.reserved_bytes, second.reserved_bytes) == (300, 600)
        first.release()
        second.reserve(5000, TOTAL)
        assert (first.reserved_bytes, second.reserved_bytes) == (0, 920)


def test_what_fits_is_served_before_one_that_came_earlier_until_that_one_has_waited_long(monkeypatch: pytest.MonkeyPatch) -> None:
    accelerator = secrets.token_hex(8)
    with Residence(accelerator) as first, Residence(accelerator) as large, Residence(accelerator) as small, Residence(accelerator) as last:
        first.reserve(300, TOTAL)
        served: list[str] = []

        def ask(name: str, who: Residence, num_bytes: int) -> threading.Thread:
            def wait() -> None:
                who.reserve(num_bytes, TOTAL)
                served.append(name)

            thread = threading.Thread(target=wait)
            thread.start()
            return thread

        waiting = ask("large", large, 5000)
        _until(lambda: bool(first._alive("ticket-*")))
        ask("small", small, 100).join(60)
        assert served == ["small"] and first.has_neighbours()
        monkeypatch.setattr("tools.timing.residence._PATIENCE_S", 0.0)
        late = ask("last", last, 100)
        time.sleep(0.2)
        assert served == ["small"]
        first.release()
        small.release()
        waiting.join(60)
        large.release()
        late.join(60)
        assert served == ["small", "large", "last"]


def _until(is_so: Callable[[], bool]) -> None:
    began = time.monotonic()
    while not is_so():
        assert time.monotonic() < began + 60
        time.sleep(0.01)
