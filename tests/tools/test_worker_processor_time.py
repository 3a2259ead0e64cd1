"""What counts as processor time of a process, and who is held still with it."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection

import pytest

from tools.worker.processes import cpu_seconds, waits

_WORK_S = 0.03


def _work() -> None:
    end = time.thread_time() + _WORK_S
    while time.thread_time() < end:
        pass


def _with_help(kind: str, pipe: Connection) -> None:
    if kind == "thread":
        thread = threading.Thread(target=_work)
        thread.start()
        thread.join()
    elif os.fork() == 0:
        _work()
        os._exit(0)
    else:
        os.wait()
    pipe.send("done")
    pipe.recv()


@contextlib.contextmanager
def helped(kind: str) -> Iterator[int]:
    """A process whose helper has worked and ended."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    process = context.Process(target=_with_help, args=(kind, theirs))
    process.start()
    try:
        assert ours.recv() == "done"
        yield int(process.pid or 0)
    finally:
        os.kill(int(process.pid or 0), signal.SIGKILL)
        process.join()


@pytest.mark.parametrize(("kind", "least_s"), [("thread", _WORK_S), ("process", _WORK_S - 0.011)])
def test_work_of_helpers_that_have_ended_counts(kind: str, least_s: float) -> None:
    with helped(kind) as pid:
        assert cpu_seconds([pid]) >= least_s


def test_waiting_for_a_processor_is_known_by_thread() -> None:
    found = waits([os.getpid()])
    assert found is None or (os.getpid() in found and min(found.values()) >= 0.0)


def test_a_process_that_is_gone_counts_nothing() -> None:
    assert cpu_seconds([2**22 + 1]) == 0.0
