"""A run that is killed at any moment and resumed equals the unbroken one; two processes never drive the same run."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from landscape import PROBLEM, LandscapeEvaluator, WalkingCoder, config, machinery, search, shape

from agents.driver import create_run, drive
from agents.errors import RunStateError, UnknownNameError
from agents.runs.audit import audit
from agents.runs.lease import Holder
from agents.runs.store import RunStore

DRIVER = Path(__file__).parent / "kill_driver.py"


def killed_equals_unbroken(home: Path, strategy: str, seed: int, width: int, mode: str, evaluations: int, stride: str) -> int:
    """Kill a run again and again until it ends, compare it with an unbroken one, and return how often it was killed."""
    done = subprocess.run(
        [sys.executable, str(DRIVER), str(home / "killed"), strategy, str(seed), str(width), mode, str(evaluations), stride],
        capture_output=True,
        text=True,
        timeout=1200,
        env={**os.environ, "PYTHONPATH": str(DRIVER.parent.parent.parent)},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    killed = RunStore(home / "killed")
    (record,) = killed.runs()
    store, run_id, result = search(home / "unbroken", config(strategy, evaluations, seed=seed, width=width))
    assert shape(killed, record.run_id) == shape(store, run_id)
    assert audit(killed, record) == []
    assert record.result is not None
    for name in ("num_evaluations", "num_nodes", "reason"):
        assert record.result[name] == result[name]
    assert record.result["best"]["candidate_id"] == result["best"]["candidate_id"]  # type: ignore[index]  # JSON
    return int(done.stdout)


@pytest.mark.parametrize(
    ("strategy", "seed", "width", "mode"),
    [("greedy", 3, 1, "time"), ("evolutionary", 5, 3, "time"), ("greedy", 1, 1, "write"), ("mcts", 2, 2, "write")],
)
def test_killed_and_resumed_run_equals_the_unbroken_one(tmp_path: Path, strategy: str, seed: int, width: int, mode: str) -> None:
    assert killed_equals_unbroken(tmp_path, strategy, seed, width, mode, 16, "2") >= 10


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("strategy", ["evolutionary", "greedy", "mcts", "one_shot"])  # the chain of `linear` ends too soon here
def test_run_killed_at_fifty_commits_equals_the_unbroken_one(tmp_path: Path, strategy: str) -> None:
    assert killed_equals_unbroken(tmp_path, strategy, 1, 1, "write", 120, "0.1") >= 50


def test_second_process_is_refused_while_the_first_one_drives(tmp_path: Path) -> None:
    with RunStore(tmp_path) as store:
        run_id = create_run(store, PROBLEM, "cpu", config())
        other = RunStore(tmp_path)
        with pytest.raises(RunStateError, match=f"driven by process {os.getpid()}"):
            other.acquire(run_id)
    other.acquire(run_id)


def test_lease_of_a_dead_process_is_taken_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = subprocess.Popen([sys.executable, "-c", "pass"])
    gone.wait()
    here = Holder.current()
    monkeypatch.setattr(Holder, "current", staticmethod(lambda: Holder("them", here.host, gone.pid, "1")))
    store = RunStore(tmp_path)
    run_id = create_run(store, PROBLEM, "cpu", config())
    monkeypatch.undo()
    RunStore(tmp_path).acquire(run_id)
    with pytest.raises(RunStateError, match="taken over"):
        store.beat(run_id, 1.0)


def test_lease_of_a_silent_host_is_taken_over_only_after_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(Holder, "current", staticmethod(lambda: Holder("them", "elsewhere", 1, "1")))
    run_id = create_run(RunStore(tmp_path, clock=lambda: now), PROBLEM, "cpu", config())
    monkeypatch.undo()
    with pytest.raises(RunStateError, match="elsewhere"):
        RunStore(tmp_path, clock=lambda: now + 30).acquire(run_id)
    RunStore(tmp_path, clock=lambda: now + 61).acquire(run_id)


def test_finished_run_cannot_be_resumed(tmp_path: Path) -> None:
    store, run_id, _ = search(tmp_path, config(evaluations=3))
    with pytest.raises(RunStateError, match="finished"):
        store.acquire(run_id)


def test_unknown_run_lists_the_latest(tmp_path: Path) -> None:
    store, run_id, _ = search(tmp_path, config(evaluations=2))
    with pytest.raises(UnknownNameError, match=run_id):
        store.acquire("nonsense")


def interrupt(store: RunStore, run_id: str) -> None:
    """Drive a run and end that after the first node."""

    async def interrupted() -> None:
        task = asyncio.create_task(drive(store, run_id, machinery(coder=WalkingCoder(delay_s=0.02))))
        while not store.node_summaries(run_id):
            await asyncio.sleep(0.01)
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(interrupted())
    assert not store.run(run_id).is_driven


@pytest.mark.parametrize("is_step_unfinished", [False, True])
def test_interrupted_run_stays_open_and_gives_its_lease_back(tmp_path: Path, is_step_unfinished: bool) -> None:
    store = RunStore(tmp_path)
    run_id = create_run(store, PROBLEM, "cpu", config(evaluations=20))
    interrupt(store, run_id)
    if is_step_unfinished:  # as if killed when what the step wrote was stored, and the checkpoint that follows was not
        with sqlite3.connect(tmp_path / "checkpoints.sqlite") as connection:
            connection.execute("DELETE FROM checkpoints WHERE checkpoint_id = (SELECT max(checkpoint_id) FROM checkpoints)")
        connection.close()
    store.acquire(run_id)
    result = asyncio.run(drive(store, run_id, machinery(LandscapeEvaluator())))
    assert len(store.events(run_id, "planned")) == 1
    other, other_id, unbroken = search(tmp_path / "unbroken", config(evaluations=20))
    assert shape(store, run_id) == shape(other, other_id)
    assert result["num_evaluations"] == unbroken["num_evaluations"] == 20


def test_wall_time_adds_up_over_resumes(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    run_id = create_run(store, PROBLEM, "cpu", config(evaluations=4))
    store.beat(run_id, 1e6)
    result = asyncio.run(drive(store, run_id, machinery()))
    assert 1e6 < result["seconds"] < 2e6
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
