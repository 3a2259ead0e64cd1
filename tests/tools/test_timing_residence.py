"""The memory of an accelerator: shared by evaluations, or one's alone."""

from __future__ import annotations

import multiprocessing
import os
import secrets
import time
from multiprocessing.synchronize import Event

from tools.timing import residence
from tools.timing.residence import alone, beside_others

Place = tuple[str, int]
"""Name of an accelerator that nobody else uses, and the pipe into which processes say at once what they do."""


def _beside(place: Place, leave: Event) -> None:
    accelerator, told = place
    with beside_others(accelerator, lambda is_wanted: _say(told, "leaves, wanted" if is_wanted else "leaves")):
        _say(told, "beside")
        leave.wait(60)


def _alone(place: Place, leave: Event) -> None:
    accelerator, told = place
    with alone(accelerator):
        _say(told, "alone")
        leave.wait(60)


def _say(told: int, text: str) -> None:
    os.write(told, f"{text}\n".encode())


def test_one_that_needs_the_whole_memory_waits_for_those_that_run_and_is_waited_for_by_those_that_come() -> None:
    context = multiprocessing.get_context("fork")
    reading, writing = os.pipe()
    place = secrets.token_hex(8), writing
    first_leaves, whole_leaves, later_leaves = (context.Event() for _ in range(3))
    later_leaves.set()
    with os.fdopen(reading) as lines, os.fdopen(writing, "wb"):
        first = context.Process(target=_beside, args=(place, first_leaves))
        first.start()
        assert lines.readline() == "beside\n"
        neighbour = context.Process(target=_beside, args=(place, later_leaves))
        neighbour.start()
        assert [lines.readline() for _ in range(2)] == ["beside\n", "leaves\n"]
        whole = context.Process(target=_alone, args=(place, whole_leaves))
        whole.start()
        while not _is_wanted(place[0]):
            time.sleep(0.01)
        later = context.Process(target=_beside, args=(place, later_leaves))
        later.start()
        first_leaves.set()
        assert [lines.readline() for _ in range(2)] == ["leaves, wanted\n", "alone\n"]
        whole_leaves.set()
        assert [lines.readline() for _ in range(2)] == ["beside\n", "leaves\n"]
    for process in (first, neighbour, whole, later):
        process.join(60)
        assert process.exitcode == 0


def _is_wanted(accelerator: str) -> bool:
    with residence._files(accelerator) as (_, wanted):
        return not residence._try(wanted, residence.fcntl.LOCK_SH)
