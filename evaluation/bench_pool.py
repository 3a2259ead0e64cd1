"""Several problems of a suite at a time, each worker process with an evaluator of its own; on an accelerator checks overlap, timings are alone."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from itertools import islice
from multiprocessing.util import Finalize
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evaluation.bench import BenchOptions, announce, pending, run_one
from evaluation.errors import EvaluationError
from evaluation.records import Record, append
from tools.slots import Slot, find_slots
from tools.types import Problem

if TYPE_CHECKING:
    from agents.driver import Machinery
    from agents.runs.store import RunStore


_LEAST_CORES = 4
"""Cores of a worker where there are so many, shared with a neighbour if need be: a compilation, a reference and a candidate take turns on them."""


def run_suite_beside(
    problems: Sequence[Problem],
    options: BenchOptions,
    home: Path,
    *,
    num_workers: int,
    stop_after_s: float | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> list[Record]:
    """Search for several problems at a time and append each record the moment it is known.

    Args:
        problems: The suite, or a shard of it.
        options: What to do.
        home: State directory that the workers share.
        num_workers: Problems at a time; they are spread over the accelerators (on the CPU they would disturb each other's timings: 1 is right there).
        stop_after_s: Start no further problem after so many seconds; None: run them all.
        tell: Receives a line of progress per problem.

    Raises:
        EvaluationError: There are no problems, or a worker process died.
        MachineError: The target's device is missing.
    """
    todo = pending(problems, options, tell)
    context = multiprocessing.get_context("spawn")
    places = context.SimpleQueue()
    for slot in _spread(options.target, num_workers):
        places.put(slot)
    began = time.monotonic()
    made: list[Record] = []
    with ProcessPoolExecutor(num_workers, mp_context=context, initializer=_open, initargs=(places, home, options)) as pool:
        waiting = iter(todo)
        running = {pool.submit(_work, problem) for problem in islice(waiting, num_workers)}
        while running:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                try:
                    record = future.result()
                except BrokenProcessPool as error:
                    raise EvaluationError(f"a worker process died; {len(made)} records are kept and --resume goes on from them") from error
                append(options.results, record)
                made.append(record)
                announce(record, len(made), len(todo), tell)
            if stop_after_s is None or time.monotonic() - began < stop_after_s:
                running |= {pool.submit(_work, problem) for problem in islice(waiting, len(done))}
    return made


def _spread(target: str, num_workers: int) -> list[Slot]:
    slots, cores = find_slots(target), sorted(os.sched_getaffinity(0))
    share = min(len(cores), max(_LEAST_CORES, len(cores) // num_workers))
    return [
        Slot(slots[number % len(slots)].accelerator, tuple(cores[(number * share + place) % len(cores)] for place in range(share)))
        for number in range(num_workers)
    ]


_OPENED: tuple[RunStore, Machinery, BenchOptions] | None = None


def _open(places: Any, home: Path, options: BenchOptions) -> None:  # Any: a multiprocessing queue
    """Set a worker up: its accelerator, its share of the cores, its store and machinery, open until it ends."""
    global _OPENED
    from agents.runs.store import RunStore
    from agents.workbench import workbench

    slot: Slot = places.get()
    if slot.accelerator:
        os.environ["CUDA_VISIBLE_DEVICES"] = slot.accelerator
    os.sched_setaffinity(0, slot.cores)
    os.environ |= {name: str(len(slot.cores)) for name in ("OMP_NUM_THREADS", "TORCHINDUCTOR_COMPILE_THREADS")}
    stack = ExitStack()
    store = stack.enter_context(RunStore(home))
    machinery = stack.enter_context(workbench(home, options.target, options.config, lambda _: None))
    Finalize(None, stack.close, exitpriority=10)
    _OPENED = (store, machinery, options)


def _work(problem: Problem) -> Record:
    if _OPENED is None:
        raise RuntimeError("the worker was not set up")
    store, machinery, options = _OPENED
    return run_one(problem, options, store, machinery)
