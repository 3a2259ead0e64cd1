"""Commands and timings on one accelerator: who waits for whom, and what is held still."""

from __future__ import annotations

import functools
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tools.check.verdict import Rejected
from tools.sandbox.environment import base_environment
from tools.timing.exclusive import exclusive_device, shared_device
from tools.timing.turns import Turns
from tools.worker.attempt import CandidateProcess, Deadline, DeviceNotOpenedError
from tools.worker.devices import is_steady
from tools.worker.processes import Zygote
from tools.worker.session import Arenas

COMPILES = """
import pathlib, time
here = pathlib.Path(__file__).parent
while not (here / "go").exists():
    with (here / "ticks").open("a") as file:
        file.write(".")
    time.sleep(0.005)
raise ValueError("it got to its end")
"""


@pytest.fixture(scope="module")
def zygote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zygote]:
    folder = tmp_path_factory.mktemp("warm")
    opened = Zygote(folder, base_environment(folder))
    yield opened
    opened.close()


@pytest.fixture
def process(zygote: Zygote, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[CandidateProcess]:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))  # locks of its own
    (tmp_path / "candidate.py").write_text(COMPILES)
    config = {"device": "cpu", "num_threads": 1, "environment": {}, "confinement": {"layers": []}}
    with CandidateProcess(zygote, tmp_path / "candidate.py", tmp_path / "work", config) as made:
        yield made


def compiling(process: CandidateProcess, is_idle: Callable[[], bool], parts_s: dict[str, float], deadline: Deadline) -> threading.Thread:
    """Start a thread in which a command of the process runs until the file `go` appears; return once it runs."""

    def load() -> None:
        with Turns(lambda: shared_device("cuda", "0"), parts_s) as turns:
            process.turn = functools.partial(turns.turn, is_idle)
            with pytest.raises(Rejected, match="it got to its end"):
                process.load({}, Arenas(), {}, deadline)

    thread = threading.Thread(target=load)
    thread.start()
    until(lambda: ticks(process) > 0)
    return thread


def ticks(process: CandidateProcess) -> int:
    path = process.source.parent / "ticks"
    return path.stat().st_size if path.exists() else 0


def until(is_so: Callable[[], bool]) -> None:
    began = time.monotonic()
    while not is_so():
        assert time.monotonic() < began + 60
        time.sleep(0.01)


def test_a_long_command_stands_still_while_another_times_and_goes_on_afterwards(process: CandidateProcess) -> None:
    parts_s: dict[str, float] = {}
    deadline = Deadline(600.0)
    thread = compiling(process, lambda: True, parts_s, deadline)
    with exclusive_device("cuda", "0"):
        before = ticks(process)
        time.sleep(0.3)
        assert ticks(process) == before
        (process.source.parent / "go").touch()
    thread.join(60)
    assert not thread.is_alive() and parts_s["held"] > 0.3 and "held_in_vain" not in parts_s


def test_a_timing_waits_for_the_end_of_a_command_whose_kernels_still_run(process: CandidateProcess) -> None:
    parts_s: dict[str, float] = {}
    thread = compiling(process, lambda: False, parts_s, Deadline(600.0))
    order: list[str] = []

    def time_it() -> None:
        with exclusive_device("cuda", "0"):
            order.append("timing")

    timing = threading.Thread(target=time_it)
    timing.start()
    until(lambda: "held_in_vain" in parts_s)
    before = ticks(process)
    until(lambda: ticks(process) > before)
    order.append("command goes on")
    (process.source.parent / "go").touch()
    thread.join(60)
    timing.join(60)
    assert order == ["command goes on", "timing"] and "held" not in parts_s


def test_the_time_of_a_command_does_not_run_while_it_is_held_still(process: CandidateProcess) -> None:
    deadline = Deadline(600.0)
    parts_s: dict[str, float] = {}
    began = time.monotonic()
    thread = compiling(process, lambda: True, parts_s, deadline)
    with exclusive_device("cuda", "0"):
        time.sleep(0.5)
        (process.source.parent / "go").touch()
    thread.join(60)
    assert 600.0 - deadline.remaining_s() <= time.monotonic() - began - 0.5


def test_the_device_is_kept_while_a_process_initialises_it_and_no_longer(process: CandidateProcess) -> None:
    with Turns(lambda: shared_device("cuda", "0"), {}) as turns:
        turns.open_beside(process)
        with turns.turn():
            pass
        until(lambda: not process.is_opening())
        with turns.turn():
            pass
        with exclusive_device("cuda", "0"):  # nothing waits for it in this thread, so it would wait for 15 minutes
            pass
    process.await_device()
    assert process.opened["profiler"] == "not asked for"


def test_what_is_kept_beyond_a_command_holds_up_a_timing_until_it_is_let_go(process: CandidateProcess) -> None:
    with shared_device("cuda", "0") as hold:
        let_go = hold.keep()
    order: list[str] = []

    def time_it() -> None:
        with exclusive_device("cuda", "0"):
            order.append("timing")

    timing = threading.Thread(target=time_it)
    timing.start()
    with shared_device("cuda", "1") as other:
        assert not other.is_wanted()
    time.sleep(0.1)
    order.append("let go")
    let_go()
    timing.join(60)
    assert order == ["let go", "timing"]


def test_a_process_that_ends_while_it_initialises_its_device_is_not_the_candidates_failure(process: CandidateProcess) -> None:
    os.kill(process._worker.pid, signal.SIGKILL)
    process.open_device()
    with pytest.raises(DeviceNotOpenedError):
        process.load({}, Arenas(), {}, Deadline(10.0))


def test_a_stop_of_a_slice_of_the_devices_time_is_told_from_steady_work() -> None:
    steady = [0.08, 0.081, 0.079, 0.12, 0.08]
    assert is_steady(steady) and not is_steady([*steady, 2.1])


def test_imports_that_touch_the_device_are_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "touching.py").write_text("import torch.cuda\ntorch.cuda._is_in_bad_fork = lambda: True\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    warm = Zygote(tmp_path, base_environment(tmp_path), ("touching",))
    try:
        assert warm.touched == "an import asked for accelerators"
    finally:
        warm.close()
