"""What newcomers stumbled over: counts that tell an evaluation twice, Ctrl-C that waits, servers that end without a word, warnings over and over."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
from landscape import PROBLEM, LandscapeEvaluator, WalkingCoder, config, evaluation_of, machinery

from agents import interrupting
from agents.cli import _Once
from agents.coders.base import CoderTask, Draft
from agents.driver import create_run, drive
from agents.interrupting import run_interruptible
from agents.runs.records import Event
from agents.runs.store import RunStore
from tools.types import Candidate, Effort, Evaluation, Problem, Status

ROOT = Path(__file__).resolve().parent.parent.parent


class StoppingCoder(WalkingCoder):
    """Is interrupted while it writes its second draft of a session."""

    async def write(self, task: CoderTask) -> Draft:
        if task.attempt == 2:
            raise KeyboardInterrupt
        return await super().write(task)


class WrongFirst(LandscapeEvaluator):
    """Fails every first attempt, so that a session goes on to its second."""

    def evaluate(self, candidate: Candidate, problem: Problem, *, target: str, effort: Effort, seed: int) -> Evaluation:
        if "attempt 1" in candidate.source:
            return evaluation_of(candidate, Status.WRONG_VALUES, problem=problem, target=target)
        return super().evaluate(candidate, problem, target=target, effort=effort, seed=seed)


def told(events: Sequence[Event], kind: str) -> list[tuple[str, int]]:
    return [(event.data["session"], event.data["attempt"]) for event in events if event.kind == kind]


def test_a_resumed_run_tells_every_evaluation_once_and_counts_right(tmp_path: Path) -> None:
    """The first draft of a session fails and is told; the run is interrupted while the second one is written, in the same session."""
    store = RunStore(tmp_path)
    seen: list[Event] = []
    run_id = create_run(store, PROBLEM, "cpu", config(evaluations=6))
    with pytest.raises(KeyboardInterrupt):
        asyncio.run(drive(store, run_id, machinery(WrongFirst(), StoppingCoder(), report=seen.append)))
    before = list(seen)
    assert told(before, "evaluated"), "the interruption came before anything was evaluated"
    store.acquire(run_id)
    asyncio.run(drive(store, run_id, machinery(WrongFirst(), WalkingCoder(), report=seen.append)))
    every = told(seen, "evaluated")
    assert len(every) == len(set(every))
    stored = told(store.events(run_id, "evaluated"), "evaluated")
    assert len(stored) == len(set(stored)) and set(stored) == set(every)
    counts = [event.data["evaluations"] for event in seen if event.kind in ("evaluated", "remeasured")]
    assert counts == list(range(1, store.spent(run_id).evaluations + 1))


def test_an_interruption_does_not_wait_for_a_call_in_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interrupting, "LEFT_S", 0.1)
    began, released, waited = threading.Event(), threading.Event(), []

    def call() -> None:
        began.set()
        waited.append(released.wait(60))

    async def work() -> None:
        await asyncio.to_thread(call)

    def interrupt() -> None:
        began.wait(60)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    try:
        with pytest.raises(KeyboardInterrupt):
            run_interruptible(work())
        assert not waited, "it waited for the call"
    finally:
        released.set()


def test_an_interruption_ends_the_capture_that_a_call_waits_for(tmp_path: Path) -> None:
    """So that neither the command nor a process that nobody waits for stays."""
    script, started = tmp_path / "capture_worker.py", tmp_path / "started"
    script.write_text(f"import pathlib, time\npathlib.Path({str(started)!r}).touch()\ntime.sleep(600)\n")
    codes: list[int] = []

    def call() -> None:
        codes.append(subprocess.run([sys.executable, str(script)], check=False).returncode)

    async def work() -> None:
        await asyncio.to_thread(call)

    def interrupt() -> None:
        while not started.exists():
            threading.Event().wait(0.02)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        run_interruptible(work())
    for _ in range(1500):
        if codes:
            break
        threading.Event().wait(0.02)
    assert codes == [-signal.SIGKILL]


def test_a_warning_is_said_once_and_an_error_every_time() -> None:
    once = _Once()

    def passes(level: int, text: str) -> bool:
        return bool(once.filter(logging.LogRecord("name", level, "file", 1, text, None, None)))

    assert [passes(logging.WARNING, "no kernel fits"), passes(logging.WARNING, "no kernel fits"), passes(logging.WARNING, "another")] == [
        True,
        False,
        True,
    ]
    assert [passes(logging.ERROR, "broken"), passes(logging.ERROR, "broken")] == [True, True]


@pytest.mark.parametrize("command", [("agents.cli", "kevolve"), ("kb.cli", "kb")])
def test_an_mcp_server_says_why_it_ended(tmp_path: Path, command: tuple[str, str]) -> None:
    module, name = command
    environment = {**os.environ, "KEVOLVE_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    if name == "kb":
        from kb.store import KnowledgeBase

        KnowledgeBase.open(tmp_path, embedder="hashing").close()
    done = subprocess.run(
        [sys.executable, "-c", f"from {module} import main; main()", "mcp"],
        input="", capture_output=True, text=True, env=environment, check=False, cwd=ROOT, timeout=300,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith(f"{name}: the client closed the connection")


@pytest.mark.skipif(shutil.which("make") is None, reason="no make here")
def test_the_demo_installs_no_extra_and_tests_install_those_of_development(tmp_path: Path) -> None:
    def commands(target: str) -> str:
        return subprocess.run(
            ["make", "-n", target, f"VENV={tmp_path / 'venv'}"], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout  # fmt: skip

    demo, test = commands("demo"), commands("test")
    assert re.search(r"pip install --quiet -e \.$", demo, re.MULTILINE) and "[dev]" not in demo
    assert '-e ".[dev]"' in test
