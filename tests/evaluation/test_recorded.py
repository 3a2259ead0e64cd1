"""Lists of candidates, their measurement in a given time, and searches on the record, with a deterministic evaluator."""

from __future__ import annotations

import asyncio
import dataclasses
import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from agents.coders.base import CoderTask, Draft
from agents.config import RunConfig
from agents.driver import Machinery
from agents.runs.store import RunStore
from agents.types import Attempt, Budget, Memory
from evaluation.comparison import Plan, compare
from evaluation.comparison_report import render
from evaluation.errors import RecordError
from evaluation.listing import Listed, list_candidates, read_list, write_list
from evaluation.measuring import BRIEF, append, measure, next_number, read_measured
from evaluation.recorded import ListedCoder, RecordedEvaluator, Recording, redrawn, steps_between
from tools.types import QUICK, Candidate, Evaluation, Evidence, Interval, Problem, Status, Timing, WorkloadEvaluation

PROBLEM = Problem("tests/grid", "grid", "class Model: ...\ndef get_inputs(): ...\ndef get_init_inputs(): ...\n")
VALUES = (1, 2, 4, 8)


def candidate(block: int, warps: int) -> Candidate:
    region = {"key": "grid", "kernel": "k", "prologue": False, "epilogue": False, "tunables": {"BLOCK": block, "warps": warps}}
    origin = {"coder": "library", "kind": "kernels", "regions": [region]}
    return Candidate(f"BLOCK = {block}\nWARPS = {warps}\n", "torch", {}, origin)


class GridCoder:
    """Drafts one setting and the reference; then moves one number a step."""

    async def write(self, task: CoderTask) -> Draft:
        written = {attempt.candidate.candidate_id for attempt in (*task.history, *task.parents)}
        options = [candidate(2, 2), Candidate("REFERENCE = 1\n", "torch", {}, {"kind": "eager"})]
        for parent in task.parents:
            tunables = parent.candidate.provenance["regions"][0]["tunables"]
            block, warps = VALUES.index(tunables["BLOCK"]), VALUES.index(tunables["warps"])
            moves = [(block + 1, warps), (block - 1, warps), (block, warps + 1), (block, warps - 1)]
            options += [candidate(VALUES[x], VALUES[y]) for x, y in moves if 0 <= x < 4 and 0 <= y < 4]
        left = [item for item in options if item.candidate_id not in written]
        return Draft(left[0], "next") if left else Draft(None, exhausted=True)

    async def signature(self, problem: Problem, target: str) -> str:
        return ""


class GridEvaluator:
    """Faster towards BLOCK 8; WARPS 1 fails; every call is a little different, as a measurement is."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def evaluate(self, item: Candidate, problem: Problem, *, target: str, effort: object, seed: int) -> Evaluation:
        self.calls.append(item.source)
        numbers = {name.strip(): int(value) for name, value in (line.split("=") for line in item.source.splitlines())}
        if numbers.get("WARPS") == 1:
            return Evaluation(item.candidate_id, problem.problem_id, target, Evidence.MEASURED, Status.WRONG_VALUES, "wrong")
        latency = 8.0 / (numbers.get("BLOCK", 1) + 0.01 * seed)
        own = tuple(latency * (1 + 0.01 * index) for index in range(6))
        base = tuple(8.0 + 0.1 * index for index in range(6))
        speedup = {"eager": Interval(8 / latency, 8 / latency, 8 / latency)}
        workload = WorkloadEvaluation("default", Timing(latency, own), {"eager": Timing(8.0, base)}, speedup)
        return Evaluation(
            item.candidate_id, problem.problem_id, target, Evidence.MEASURED, Status.PASSED, "", (workload,), latency, speedup
        )


def listed(most: int = 40) -> list[Listed]:
    return list_candidates(GridCoder(), None, PROBLEM, "cpu", most)


def record(folder: Path, most: int = 40, repeats: int = 1) -> tuple[list[Listed], Recording]:
    items, path = listed(), folder / "evaluations.jsonl"
    measure(PROBLEM, items[:most], GridEvaluator(), "cpu", BRIEF, path, 600.0, repeats)
    return items, Recording(path)


def test_a_list_holds_every_candidate_once_drafts_first_then_ring_by_ring() -> None:
    items = listed()
    assert len(items) == len({item.source_hash for item in items}) == 17
    assert [item.base for item in items[:4]] == [None, None, 0, 0]
    distances = [steps_between(items[0], item) for item in items if item.setting]
    assert distances == sorted(distances)
    assert len(listed(5)) == 5


def test_a_list_survives_its_file(tmp_path: Path) -> None:
    items = listed()
    for name in ("list.jsonl", "list.jsonl.gz"):
        assert write_list(tmp_path / name, [(PROBLEM, items)]) == 17
        problem, found = read_list(tmp_path / name)[0]
        assert problem == PROBLEM and [item.source_hash for item in found] == [item.source_hash for item in items]
        assert [(item.base, item.structure, item.setting) for item in found] == [
            (item.base, item.structure, item.setting) for item in items
        ]
    first = (tmp_path / "list.jsonl.gz").read_bytes()
    write_list(tmp_path / "list.jsonl.gz", [(PROBLEM, items)])
    assert (tmp_path / "list.jsonl.gz").read_bytes() == first


@pytest.mark.parametrize("content", [b"not json\n", b'{"number": 0}\n', b"\xff\xfe"])
def test_what_is_no_list_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.jsonl").write_bytes(content)
    with pytest.raises(RecordError, match=r"bad\.jsonl"):
        read_list(tmp_path / "bad.jsonl")
    (tmp_path / "bad.jsonl.gz").write_bytes(gzip.compress(content)[:-4])
    with pytest.raises(RecordError, match=r"bad\.jsonl\.gz"):
        read_list(tmp_path / "bad.jsonl.gz")


def test_drafts_are_measured_first_then_around_the_fastest_with_every_third_in_order() -> None:
    items = listed()
    assert [next_number(items, dict.fromkeys(range(count), 1.0), count) for count in (0, 1)] == [0, 1]
    fitness = {0: 1.0, 1: 1.0, 2: 5.0}
    children = [item.number for item in items if item.base == 2]
    assert next_number(items, fitness, 3) == children[0]
    assert next_number(items, fitness, 5) == 3
    assert next_number(items, {item.number: 1.0 for item in items}, 17) is None


def test_a_cut_recording_goes_on_and_measures_nothing_twice(tmp_path: Path) -> None:
    items, path, evaluator = listed(), tmp_path / "evaluations.jsonl", GridEvaluator()
    measure(PROBLEM, items[:5], evaluator, "cpu", BRIEF, path, 600.0, 1)
    with path.open("a") as file:
        file.write('{"torn')
    assert len(read_measured(path)) == 5
    measure(PROBLEM, items, evaluator, "cpu", BRIEF, path, 600.0, 1)
    assert len(evaluator.calls) == len(set(evaluator.calls)) == 17
    assert sorted(item.number for item in read_measured(path)) == list(range(17))


def test_time_that_is_over_ends_the_recording_and_a_crash_is_a_record(tmp_path: Path) -> None:
    class Broken(GridEvaluator):
        def evaluate(self, *rest, **more):  # type: ignore[no-untyped-def]
            raise OSError("no device")

    path = tmp_path / "evaluations.jsonl"
    assert measure(PROBLEM, listed(), GridEvaluator(), "cpu", BRIEF, path, -1.0, 1) == 0 and not path.exists()
    assert measure(PROBLEM, listed(2), Broken(), "cpu", BRIEF, path, 600.0, 1) == 2
    assert {item.evaluation.status for item in read_measured(path)} == {Status.HARNESS_ERROR}
    assert Recording(path).num_candidates(PROBLEM) == 0


def test_an_answer_is_drawn_from_the_record_by_seed_and_never_invented(tmp_path: Path) -> None:
    _, recording = record(tmp_path, most=8, repeats=2)
    evaluator = RecordedEvaluator(recording)

    def ask(item: Candidate, seed: int) -> Evaluation:
        return evaluator.evaluate(item, PROBLEM, target="cpu", effort=QUICK, seed=seed)

    assert ask(candidate(2, 2), 3) == ask(candidate(2, 2), 3)
    assert len({ask(candidate(2, 2), seed).fitness for seed in range(8)}) > 1
    measured = {sample for item in recording.of(PROBLEM, listed()[0].source_hash) for sample in item.workloads[0].candidate.samples_ms}
    assert all(set(ask(candidate(2, 2), seed).workloads[0].candidate.samples_ms) <= measured for seed in range(8))
    missing = ask(candidate(8, 8), 0)
    assert missing.status is Status.NOT_MEASURED and missing.fitness == 0.0 and evaluator.num_missing == 1


def test_drawn_pairs_stay_pairs() -> None:
    evaluation = GridEvaluator().evaluate(candidate(2, 2), PROBLEM, target="cpu", effort=QUICK, seed=0)
    drawn = redrawn(evaluation, np.random.default_rng(1)).workloads[0]
    pairs = set(zip(evaluation.workloads[0].candidate.samples_ms, evaluation.workloads[0].baselines["eager"].samples_ms, strict=True))
    assert set(zip(drawn.candidate.samples_ms, drawn.baselines["eager"].samples_ms, strict=True)) <= pairs


def task(history: list[Attempt], parent: Attempt | None = None, **more: object) -> CoderTask:
    memory = Memory.CLEAN if parent is None else Memory.PARENT
    return CoderTask(PROBLEM, "cpu", history=history, parents=(parent,) if parent else (), memory=memory, **more)  # type: ignore[arg-type]  # test shorthand


def test_a_listed_coder_drafts_then_moves_from_what_is_expanded(tmp_path: Path) -> None:
    items, recording = record(tmp_path)
    coder, evaluator = ListedCoder([(PROBLEM, items)], recording), GridEvaluator()

    def attempt(item: Candidate) -> Attempt:
        return Attempt(item, evaluator.evaluate(item, PROBLEM, target="cpu", effort=QUICK, seed=0))

    first = asyncio.run(coder.write(task([])))
    assert first.candidate is not None and first.candidate.source == items[0].candidate.source
    history = [attempt(item.candidate) for item in items[:2]] + [attempt(candidate(8, 8))]
    near = asyncio.run(coder.write(task(history, history[0], seed=5)))
    assert near.candidate is not None
    assert steps_between(items[0], next(item for item in items if item.candidate.candidate_id == near.candidate.candidate_id)) == 1
    again = asyncio.run(coder.write(task(history, history[0], seed=5)))
    assert again.candidate == near.candidate
    sibling = asyncio.run(coder.write(task(history, history[0], seed=5, sibling=1)))
    assert sibling.candidate is not None and sibling.candidate != near.candidate
    everything = [attempt(item.candidate) for item in items]
    assert (asyncio.run(coder.write(task(everything, everything[0])))).exhausted


def test_a_listed_coder_keeps_to_what_was_measured(tmp_path: Path) -> None:
    items, recording = record(tmp_path, most=4)
    coder, history = ListedCoder([(PROBLEM, items)], recording), []
    while not (draft := asyncio.run(coder.write(task(history)))).exhausted:
        assert draft.candidate is not None
        history.append(Attempt(draft.candidate, GridEvaluator().evaluate(draft.candidate, PROBLEM, target="cpu", effort=QUICK, seed=0)))
    assert {item.candidate.candidate_id for item in history} == {item.candidate.candidate_id for item in items[:4]}


def test_strategies_are_compared_on_a_record_and_the_report_says_so(tmp_path: Path) -> None:
    items, recording = record(tmp_path, repeats=2)
    config = RunConfig(coder="listed", use_knowledge=False, budget=Budget(6), finalists=1)
    plan = Plan(("one_shot", "greedy"), (PROBLEM,), 2, "cpu", config, tmp_path / "searches.jsonl")
    machinery = Machinery(ListedCoder([(PROBLEM, items)], recording), RecordedEvaluator(recording), lint=lambda _: ())
    with RunStore(tmp_path / "home") as store:
        found = compare(plan, store, machinery, recording=recording)
    assert len(found) == 4 and all(item.num_evaluations == 6 for item in found)
    assert all(item.fitness <= recording.best(PROBLEM) * 1.1 for item in found)
    assert found[0].environment["recorded_candidates"] == 17 and found[0].environment["recorded_sha256"] == recording.digest
    assert "17 candidates" in render(found, "one_shot")


def test_a_cut_recording_says_what_is_missing(tmp_path: Path) -> None:
    items, recording = record(tmp_path, 5)
    whole = items[:8]
    unknown = dataclasses.replace(PROBLEM, problem_id="tests/unknown", source=PROBLEM.source + "# other\n")
    assert recording.missing([(PROBLEM, items[:5])]) == []
    told = recording.missing([(PROBLEM, whole), (unknown, whole)])
    assert told[0] == "tests/grid: 5 of 8 candidates measured; without 5, 6, 7"
    assert told[1] == "tests/unknown: 0 of 8 candidates measured; it is left out"
    with pytest.raises(RecordError, match="cannot be read"):
        Recording(tmp_path / "nothing.jsonl")


def test_records_of_two_targets_are_refused(tmp_path: Path) -> None:
    _, recording = record(tmp_path, most=2)
    append(recording.path, dataclasses.replace(recording.measurements[0], target="cuda:sm_90"))
    with pytest.raises(RecordError, match="one target, it has cpu, cuda:sm_90"):
        Recording(recording.path)
    (tmp_path / "old.jsonl").write_text(json.dumps({"schema": 99}) + "\n")
    with pytest.raises(RecordError, match=r"old\.jsonl:1"):
        read_measured(tmp_path / "old.jsonl")
