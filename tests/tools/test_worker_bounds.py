"""What a candidate's processes may take together: counted, and ended where it is too much."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tools.check.verdict import Rejected
from tools.sandbox.environment import base_environment
from tools.types import Status
from tools.worker.attempt import CandidateProcess, Deadline
from tools.worker.bounds import MOST_PROCESSES, MOST_THREADS, Usage, excess, is_memory, usage
from tools.worker.processes import Zygote, children
from tools.worker.session import Arenas

FAMILY = "import os, time\npid = os.fork()\nif pid == 0:\n    os.fork()\nos.write(1, b'ready\\n')\ntime.sleep(600)\n"
BOMB = "import contextlib, os\nwhile True:\n    with contextlib.suppress(OSError):\n        os.fork()\n"


def test_a_tree_is_counted_with_all_that_it_started() -> None:
    with subprocess.Popen([sys.executable, "-c", FAMILY], stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        try:
            assert process.stdout is not None
            assert [process.stdout.readline() for _ in range(3)] == ["ready\n"] * 3
            found = usage([process.pid], 0)
            assert (found.processes, found.threads) == (3, 3) and found.resident_bytes > 1 << 20
            assert usage([process.pid], 1 << 40).resident_bytes == 0
            assert usage([process.pid, process.pid], 0).processes == 3
        finally:
            os.killpg(process.pid, 9)


@pytest.mark.parametrize(
    ("found", "allowance", "words"),
    [
        (Usage(1, 100, 5 << 30), 6 << 30, ""),
        (Usage(1, 100, 5 << 30), None, ""),
        (Usage(1, 100, 5 << 30), 4 << 30, "5.0 GiB of memory, more than the 4.0 GiB that the machine could spare"),
        (Usage(MOST_PROCESSES + 1, 1, 0), None, f"more than {MOST_PROCESSES} processes"),
        (Usage(1, MOST_THREADS + 1, 0), None, f"more than {MOST_THREADS} threads"),
    ],
)
def test_what_is_too_much_is_said_in_words(found: Usage, allowance: int | None, words: str) -> None:
    assert excess(found, allowance) == words and is_memory(words) is words.endswith("could spare")


def test_a_fork_bomb_is_ended_and_named_and_nothing_of_it_is_left(tmp_path: Path) -> None:
    source = tmp_path / "candidate.py"
    source.write_text(BOMB)
    zygote = Zygote(tmp_path, base_environment(tmp_path))
    config = {"device": "cpu", "num_threads": 1, "environment": {}, "confinement": {"layers": []}}
    try:
        with (
            CandidateProcess(zygote, source, tmp_path / "work", config) as process,
            pytest.raises(Rejected, match="they took more than") as caught,
        ):
            process.load({}, Arenas(), {}, Deadline(120.0))
        assert caught.value.status is Status.RUNTIME_ERROR
        began = time.monotonic()
        while children(zygote._process.pid):
            assert time.monotonic() < began + 60
            time.sleep(0.05)
        assert zygote.is_alive()
    finally:
        zygote.close()
