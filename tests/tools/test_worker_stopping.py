"""A process tree that is held still stays so, whatever its processes do to each other meanwhile."""

from __future__ import annotations

import contextlib
import mmap
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from tools.worker.channel import Channel
from tools.worker.processes import Worker, WorkerHostileError, Zygote, descendants, threads_ready

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
_HELPERS = 4


def count_for_ever(shared: mmap.mmap) -> None:
    number = 0
    while True:
        number += 1
        shared[:8] = number.to_bytes(8, "little")


def wake_for_ever(pids: list[int]) -> None:
    while True:
        for pid in pids:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGCONT)


@pytest.fixture
def ring() -> Iterator[tuple[Worker, mmap.mmap]]:
    """A process that counts in shared memory, with descendants that tell it and each other to go on."""
    shared, main = mmap.mmap(-1, mmap.PAGESIZE), os.fork()
    if main == 0:
        pids = [os.getpid()]
        for _ in range(_HELPERS):
            if (pid := os.fork()) == 0:
                wake_for_ever(pids)
            pids.append(pid)
        count_for_ever(shared)
    ours, theirs = socket.socketpair()
    with contextlib.closing(theirs), contextlib.closing(Channel(ours)) as channel:
        try:
            while not any(shared[:8]):
                time.sleep(0.01)
            yield Worker(cast(Zygote, None), main, channel, Path(os.devnull), owns_strays=False), shared
        finally:
            for pid in descendants(main):
                os.kill(pid, signal.SIGKILL)
            os.waitpid(main, 0)


def test_processes_that_wake_each_other_are_held_still_or_found_out(ring: tuple[Worker, mmap.mmap]) -> None:
    worker, shared = ring
    with contextlib.suppress(WorkerHostileError):
        for _ in range(8):
            with worker.stopped() as since:
                assert since <= time.perf_counter()
                assert worker.is_still()
                before = shared[:8]
                time.sleep(0.02)
                assert shared[:8] == before
            time.sleep(0.005)


def test_the_kernel_says_how_many_threads_are_ready(ring: tuple[Worker, mmap.mmap]) -> None:
    ready = threads_ready()
    assert ready is None or ready >= 2


@pytest.mark.parametrize("length", [10, 2_000_000])
def test_a_peer_that_is_held_still_is_let_go_once_a_message_is_on_its_way(length: int) -> None:
    """A long one does not fit into the socket, so that the peer has to read before all of it is sent."""
    ours, theirs = socket.socketpair()
    received: list[int] = []
    with contextlib.closing(Channel(ours)) as channel, contextlib.closing(Channel(theirs)) as peer:
        reader = threading.Thread(target=lambda: received.append(len(peer.receive(60.0)[0]["text"])))

        def start() -> None:
            if reader.ident is None:
                reader.start()

        channel.send({"text": "x" * length}, start=start)
        reader.join(60.0)
    assert received == [length]
