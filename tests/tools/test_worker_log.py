"""What a worker prints costs a bounded file, and neither blocks nor ends it."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tools.sandbox.environment import base_environment
from tools.worker.attempt import CandidateProcess, Deadline
from tools.worker.processes import Zygote
from tools.worker.session import Arenas
from tools.worker.zygote import LOG_BYTES, bound_log

SOURCE = """
import os, time
line = b"x" * (1 << 20)
for _ in range(3 * {megabytes} // 2):
    os.write(1, line)
time.sleep(1)  # what is printed in the moment in which the beginning goes may be lost
os.write(1, b"the last words")
raise ValueError("it got to its end")
"""


def test_a_candidate_that_prints_without_end_gets_to_its_end(tmp_path: Path) -> None:
    source = tmp_path / "candidate.py"
    source.write_text(SOURCE.format(megabytes=LOG_BYTES >> 20))
    zygote = Zygote(tmp_path, base_environment(tmp_path))
    config = {"device": "cpu", "num_threads": 1, "environment": {}, "confinement": {"layers": []}}
    try:
        with CandidateProcess(zygote, source, tmp_path / "work", config) as process:
            with pytest.raises(Exception, match="it got to its end"):
                process.load({}, Arenas(), {}, Deadline(60.0))
            log, began = tmp_path / "work.log", time.monotonic()
            while not (1 << 20 <= log.stat().st_size <= LOG_BYTES and process.log_tail(14) == "the last words"):
                assert time.monotonic() < began + 60
                time.sleep(0.05)
    finally:
        zygote.close()


def test_a_log_keeps_its_end_and_says_what_is_missing(tmp_path: Path) -> None:
    fd = os.open(tmp_path / "log", os.O_RDWR | os.O_CREAT | os.O_APPEND)
    os.ftruncate(fd, LOG_BYTES)
    os.write(fd, b"end")
    bound_log(fd)
    os.write(fd, b" and more")
    os.close(fd)
    text = (tmp_path / "log").read_bytes()
    assert text.startswith(f"[{LOG_BYTES + 3 - (1 << 20)} bytes left out]\n".encode()) and text.endswith(b"end and more")
    assert len(text) < 2 << 20
