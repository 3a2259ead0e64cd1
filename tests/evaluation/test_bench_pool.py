"""Several problems at a time: each once, none lost, in time. Workers are threads here; what they do to a problem is planted."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import pytest

from agents.config import RunConfig
from evaluation import bench_pool
from evaluation.bench import BenchOptions
from evaluation.bench_pool import run_suite_beside
from evaluation.errors import EvaluationError
from evaluation.records import Record, append, read
from tools.problems import problem_from_source
from tools.slots import Slot
from tools.types import Evaluation, Evidence, Problem, Status

SOURCE = "class Model: pass\ndef get_inputs(): return []\ndef get_init_inputs(): return []\n"


def problems(count: int) -> list[Problem]:
    return [problem_from_source(SOURCE, problem_id=f"p{number}") for number in range(count)]


def record(problem: Problem) -> Record:
    best = Evaluation("c", problem.problem_id, "cpu", Evidence.MEASURED, Status.NOT_MEASURED, reason="planted")
    return Record("s", problem.problem_id, "cpu", best.to_json(), 1, 0.1, "kevolve bench", {})


def options(folder: Path, *, resume: bool = False) -> BenchOptions:
    return BenchOptions("s", "cpu", RunConfig(), folder / "records.jsonl", resume=resume)


@pytest.fixture
def workers(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Problem], Record]], None]:
    def plant(work: Callable[[Problem], Record]) -> None:
        monkeypatch.setattr(bench_pool, "_work", work)
        monkeypatch.setattr(bench_pool, "ProcessPoolExecutor", lambda count, **more: ThreadPoolExecutor(count))

    return plant


@pytest.mark.parametrize(("count", "num_workers"), [(1, 1), (7, 3), (3, 7)])
def test_every_problem_is_recorded_once(workers: Any, tmp_path: Path, count: int, num_workers: int) -> None:
    workers(record)
    told: list[str] = []
    made = run_suite_beside(problems(count), options(tmp_path), tmp_path, num_workers=num_workers, tell=told.append)
    expected = sorted(f"p{number}" for number in range(count))
    assert sorted(item.problem_id for item in made) == expected == sorted(item.problem_id for item in read([tmp_path / "records.jsonl"]))
    assert len(told) == count


def test_a_resumed_suite_leaves_out_what_is_recorded(workers: Any, tmp_path: Path) -> None:
    workers(record)
    for problem in problems(3):
        append(tmp_path / "records.jsonl", record(problem))
    made = run_suite_beside(problems(5), options(tmp_path, resume=True), tmp_path, num_workers=2)
    assert sorted(item.problem_id for item in made) == ["p3", "p4"]


def test_no_problem_starts_after_the_time_but_running_ones_are_kept(workers: Any, tmp_path: Path) -> None:
    workers(record)
    made = run_suite_beside(problems(9), options(tmp_path), tmp_path, num_workers=2, stop_after_s=0.0)
    assert sorted(item.problem_id for item in made) == ["p0", "p1"]


def test_an_empty_suite_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="no problems"):
        run_suite_beside([], options(tmp_path), tmp_path, num_workers=2)


def test_a_worker_that_dies_is_told_and_the_records_are_kept(workers: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def work(problem: Problem) -> Record:
        if problem.problem_id == "p1":
            raise BrokenProcessPool("killed")
        return record(problem)

    class InOrder:
        def __init__(self, count: int, **more: Any) -> None:
            pass

        def __enter__(self) -> InOrder:
            return self

        def __exit__(self, *error: object) -> None:
            pass

        def submit(self, function: Callable[[Problem], Record], problem: Problem) -> Future[Record]:
            future: Future[Record] = Future()
            try:
                future.set_result(function(problem))
            except BrokenProcessPool as error:
                future.set_exception(error)
            return future

    workers(work)
    monkeypatch.setattr(bench_pool, "ProcessPoolExecutor", InOrder)
    with pytest.raises(EvaluationError, match="1 records are kept"):
        run_suite_beside(problems(3), options(tmp_path), tmp_path, num_workers=1)
    assert [item.problem_id for item in read([tmp_path / "records.jsonl"])] == ["p0"]


def test_workers_are_spread_over_accelerators_and_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_pool, "find_slots", lambda target: [Slot("0"), Slot("1")])
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(16)))
    slots = bench_pool._spread("cuda:sm_90", 3)
    assert [slot.accelerator for slot in slots] == ["0", "1", "0"]
    assert [len(slot.cores) for slot in slots] == [5, 5, 5]
    assert len({core for slot in slots for core in slot.cores}) == 15


def test_many_workers_on_few_cores_get_four_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_pool, "find_slots", lambda target: [Slot("0")])
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(6)))
    assert [len(set(slot.cores)) for slot in bench_pool._spread("cuda:sm_90", 5)] == [4] * 5


def test_a_worker_that_was_not_set_up_says_so() -> None:
    with pytest.raises(RuntimeError, match="not set up"):
        bench_pool._work(problems(1)[0])
