"""Drives one search in child processes that are killed with SIGKILL again and again, until one of them reaches the end.

Usage: python kill_driver.py HOME STRATEGY SEED WIDTH MODE [EVALUATIONS STRIDE]. MODE `time`: after random delays; `write`: right before or after the n-th
commit, where n grows by STRIDE (5) from kill to kill.
Prints how many children were killed.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import langgraph.checkpoint.sqlite.aio
from landscape import PROBLEM, LandscapeEvaluator, WalkingCoder, config, machinery

import agents.graph
from agents.driver import create_run, drive
from agents.runs.store import RunStore

assert agents.graph and langgraph.checkpoint.sqlite.aio  # imported once, before the forks


class DyingStore(RunStore):
    """Kills its own process around the n-th write."""

    def __init__(self, home: Path, dies_at: int) -> None:
        self.left = dies_at
        super().__init__(home)

    @contextmanager
    def _write_run(self, run_id: str, is_precious: bool = True) -> Iterator[Any]:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        with super()._write_run(run_id, is_precious) as pair:
            yield pair
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def child(home: Path, strategy: str, seed: int, width: int, mode: str, dies_after: float, evaluations: int) -> None:
    store = RunStore(home) if mode == "time" else DyingStore(home, int(dies_after))
    runs = store.runs()
    if runs and runs[0].result is not None:
        return  # killed after the end of the run, before the end of the process
    if mode == "time":
        threading.Timer(dies_after, os.kill, (os.getpid(), signal.SIGKILL)).start()
    if runs:
        run_id = runs[0].run_id
        store.acquire(run_id)
    else:
        run_id = create_run(store, PROBLEM, "cpu", config(strategy, evaluations, seed=seed, width=width))
    asyncio.run(drive(store, run_id, machinery(LandscapeEvaluator(delay_s=0.005), WalkingCoder())))


def main() -> None:
    home, strategy, seed, width, mode = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5]
    evaluations, stride = (int(sys.argv[6]), float(sys.argv[7])) if len(sys.argv) > 6 else (16, 5.0)
    rng = random.Random(seed)
    kills = 0
    while True:
        # Early kills first; later ones leave more and more time, so that the run ends.
        dies_after = (
            rng.uniform(0.02, 0.1) + 0.05 * max(0, kills - 12)
            if mode == "time"
            else (3 if stride >= 1 else 24) + stride * kills + rng.randrange(4)
        )
        pid = os.fork()
        if pid == 0:
            child(home, strategy, seed, width, mode, dies_after, evaluations)
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        if os.WIFEXITED(status):
            break
        kills += 1
    print(kills)
    sys.exit(os.WEXITSTATUS(status))


if __name__ == "__main__":
    main()
