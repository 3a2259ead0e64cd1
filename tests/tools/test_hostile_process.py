"""The parent's whole handle on a candidate against a process that answers anything: each command ends in an answer or a verdict, within its time, and nothing else."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tools.check.composition import composition_of, kernel_times, launched_names
from tools.check.stress import StressRecord, _has_own, leave_kernels_out, repeat
from tools.check.verdict import Rejected
from tools.receipts import finite
from tools.types import QUICK, Composition, Status
from tools.worker.attempt import CandidateProcess, Deadline
from tools.worker.channel import MAX_BODY_BYTES, Channel
from tools.worker.processes import Worker
from tools.worker.session import Arenas

NOBODY = 99_999_999
"""No process has this number (proc_sys_kernel(5): pid_max is 4,194,304 at the most)."""
TENSOR = {"tensor": {"shape": [2, 3], "dtype": "float32", "nbytes": 24}}
DRAW = {"args": {"list": [TENSOR]}, "outputs": TENSOR, "outputs_bytes": 24, "init": {"list": []}, "state": {"dict": {}}}
LIMIT_S = 5.0
COMMANDS: dict[str, Callable[[CandidateProcess, Deadline], Any]] = {
    "load": lambda process, deadline: process.load({}, Arenas(), {"dict": {"w": {"tensor": {"shape": [2]}}}}, deadline),
    "state": lambda process, deadline: process.load_state({}, deadline, in_memory=True),
    "call": lambda process, deadline: process.call(DRAW, deadline, "a call", echo=True, poison_bytes=0),
    "rewrite": lambda process, deadline: process.rewrite(TENSOR, deadline),
    "trace": lambda process, deadline: process.trace(DRAW, deadline),
    "repeat": lambda process, deadline: process.repeat(DRAW, deadline, calls=2, seconds=0.1),
    "ghost": lambda process, deadline: process.ghost(DRAW, deadline),
    "prepare": lambda process, deadline: process.prepare([TENSOR], [[3, 1]], deadline, restore=False),
    "warm": lambda process, deadline: process.warm(1, deadline),
    "profile": lambda process, deadline: process.profile(3, deadline),
    "block": lambda process, deadline: process.block(3, 1, deadline),
    "announce": lambda process, deadline: process.announce([TENSOR], [TENSOR], deadline),
    "sweep": lambda process, deadline: process.sweep([], [], "in_place", deadline),
    "store": lambda process, deadline: process.store(deadline),
    "compile": lambda process, deadline: process.compile("cuda:sm_90", {}, {}, [DRAW["args"]], deadline),
}
SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12) | st.sampled_from(["tensor", "float32", "oom", "import"])
)
JSON = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["tensor", "shape", "dtype", "dict", "list", "x"]), inner, max_size=3)
    ),
    max_leaves=8,
)
NAMES = (
    "ok", "kind", "text", "state", "outputs", "invalid", "written", "devices", "aliases", "guards_intact", "echoed", "end", "operators", "launches", "kernels", "calls",
    "differing", "reused", "left_out", "same", "device_ms", "error", "profiler",
)  # fmt: skip
ANSWERS = st.dictionaries(st.sampled_from(NAMES), JSON | st.just(TENSOR) | st.just(True), max_size=6)


def frame(body: bytes) -> bytes:
    return struct.pack(">4sI", b"KEV1", len(body)) + body


def encoded(answer: dict[str, Any], number: object) -> bytes:
    return frame(json.dumps({"id": number, "ok": True, **answer}).encode())


WAYS: dict[str, Callable[[dict[str, Any], int, int], bytes]] = {
    "honest form": lambda answer, number, cut: encoded(answer, number),
    "another number": lambda answer, number, cut: encoded(answer, number ^ 1),
    "no number": lambda answer, number, cut: encoded(answer, None),
    "cut": lambda answer, number, cut: (raw := encoded(answer, number))[: cut % len(raw)],
    "changed": lambda answer, number, cut: bytes(byte ^ (255 * (place == cut % 40)) for place, byte in enumerate(encoded(answer, number))),
    "twice": lambda answer, number, cut: encoded(answer, number) * 2,
    "too long": lambda answer, number, cut: struct.pack(">4sI", b"KEV1", MAX_BODY_BYTES + 1 + cut),
    "an array": lambda answer, number, cut: frame(json.dumps([answer]).encode()),
    "nothing": lambda answer, number, cut: b"",
}


@contextlib.contextmanager
def process_that(answers: Callable[[int], bytes], commands: int = 1) -> Iterator[CandidateProcess]:
    """A handle whose other end reads so many commands, sends what it likes, and is gone."""
    ours, theirs = socket.socketpair()

    def serve() -> None:
        channel = Channel(theirs)
        with contextlib.suppress(Exception):  # the other end is closed in the middle of anything
            for _ in range(commands):
                message, fds = channel.receive(LIMIT_S)
                for fd in fds:
                    socket.close(fd)
                theirs.setblocking(True)
                theirs.sendall(answers(message["id"]))
                theirs.setblocking(False)
        theirs.close()

    thread = threading.Thread(target=serve)
    thread.start()
    zygote: Any = SimpleNamespace(kill=lambda pid: (None, ""), strays=list)
    process = object.__new__(CandidateProcess)
    process._worker = Worker(zygote, NOBODY, Channel(ours, accepts_fds=False), Path("/nonexistent/log"), owns_strays=False)
    process.source, process._serial, process._fault, process._is_loaded = Path("/nonexistent/source.py"), 0, "", False
    process.opened, process.turn, process.directory = {}, contextlib.nullcontext, Path("/nonexistent")
    try:
        yield process
    finally:
        ours.close()
        thread.join()


@pytest.mark.parametrize("command", COMMANDS)
@settings(max_examples=25, deadline=None)
@given(answer=ANSWERS, way=st.sampled_from(sorted(WAYS)), cut=st.integers(0, 10_000))
def test_every_command_ends_in_an_answer_or_a_verdict(command: str, answer: dict[str, Any], way: str, cut: int) -> None:
    with process_that(lambda number: WAYS[way](answer, number, cut)) as process:
        began = time.monotonic()
        with contextlib.suppress(Rejected):
            COMMANDS[command](process, Deadline(LIMIT_S))
            assert way in ("honest form", "twice", "changed")  # what is no answer to this command is never taken for one
        assert time.monotonic() - began < 4 * LIMIT_S


@settings(max_examples=60, deadline=None)
@given(answer=ANSWERS)
def test_what_it_says_of_repeats_and_ghosts_ends_in_a_record_or_a_verdict(answer: dict[str, Any]) -> None:
    wrong = {"numel": 6, "dtype": "float32", "class_mismatches": 3}
    session: Any = SimpleNamespace(
        survey=lambda workload, limit: SimpleNamespace(mutates_inputs=False), ask=lambda op, limit, **more: {"stats": [wrong]}
    )
    process: Any = SimpleNamespace(repeat=lambda *some, **more: answer, ghost=lambda *some: answer, rewrite=lambda *some: None)
    record = StressRecord()
    with contextlib.suppress(Rejected):
        repeat(process, session, 0, DRAW, QUICK, Deadline(1.0), record)
        assert not answer.get("differing")
    leave_kernels_out(process, DRAW, Deadline(1.0), record)
    assert record.repeats >= 0 and record.launches_left_out >= 0
    json.dumps(finite({"traces": [answer]}), allow_nan=False)
    assert composition_of([answer], [], Path("/nowhere")) in Composition and isinstance(_has_own([answer]), bool)
    assert all(value > 0 for value in kernel_times([answer]).values()) and all(isinstance(name, str) for name in launched_names([answer]))


def test_a_process_that_says_nothing_is_a_timeout_within_its_limit() -> None:
    ours, theirs = socket.socketpair()
    with process_that(lambda number: b"") as process:
        process._worker._channel.close()
        process._worker._channel = Channel(ours, accepts_fds=False)  # somebody holds the other end and is silent
        with pytest.raises(Rejected) as caught:
            process.warm(1, Deadline(0.2))
    assert caught.value.status is Status.TIMEOUT
    theirs.close()


def test_a_message_that_nobody_asked_for_is_interference() -> None:
    with process_that(lambda number: encoded({}, number) * 2, 2) as process:
        process.warm(1, Deadline(LIMIT_S))
        with pytest.raises(Rejected, match="interfered") as caught:
            process.warm(1, Deadline(LIMIT_S))
    assert caught.value.status is Status.REWARD_HACK
