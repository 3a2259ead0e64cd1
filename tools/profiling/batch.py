"""Profile many candidates in little time: all programs are prepared at once (imports, inputs, compiling), then measured one by one, so that they do not disturb each other.

For studies of our own kernels: the programs are not confined. Everything that is not done when the time is up is a typed reason in its record.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from tools.errors import ToolsError
from tools.profiling.collect import Child, Outcome, Request, absent, known_metrics, ncu_attempts, read_pass, script_of, whole_profile
from tools.profiling.emit import Settings, script_files, write_scripts
from tools.profiling.errors import ReportError
from tools.profiling.multipass import Study, held_against_base, measured_regions, study_of, write_variants
from tools.profiling.static import static_profile
from tools.profiling.types import Profile
from tools.targets.registry import get_target

ORDER = ("torch", "proton", "regions", "ncu", "marks")
"""In which passes are measured, each for all candidates; `compile` runs beside them. `marks`: Proton's instrumentation, a part of `regions` elsewhere."""
PREPARE_S = 40.0
"""How long measuring waits for the slowest program to be ready."""
WRITE_S = 4.0
"""Programs that have measured when the time is up get this long to write."""
_TICK_S = 0.02
_SIGNS = {"ncu": b"gpu__time", "proton": b"time ("}
"""What the report of a pass that saw a kernel contains."""
_HOW = "prepared beside others, measured alone; not confined"


@dataclass(frozen=True)
class Batch:
    """What is profiled together."""

    requests: tuple[Request, ...]
    folder: Path
    """Gets a folder for each request, with the tools' own files."""
    seconds: float
    parallel: int = 48
    """Programs that are prepared at once."""
    max_variants: int = 10
    """Of each kind, in `regions`."""
    say: Callable[[str], None] = lambda text: None
    """Gets a line now and then."""
    passed: Callable[[int, str, Profile], None] = lambda index, name, profile: None
    """Gets each pass of each request as soon as it is done, before the record is whole."""


@dataclass
class _Task:
    index: int
    name: str
    request: Request
    folder: Path
    attempts: list[list[str]]
    report: Path
    turn: Path
    study: Study | None = None
    child: Child | None = None
    outcome: Outcome | None = None
    failure: Profile | None = None
    is_ending: bool = False
    """It has measured and still writes."""

    def start(self, environment: Mapping[str, str]) -> None:
        self.turn.mkdir(parents=True, exist_ok=True)
        self.is_ending = False
        for name in ("ready", "go", "over"):
            (self.turn / name).unlink(missing_ok=True)
        self.report.unlink(missing_ok=True)
        self.child = Child(self.attempts.pop(0), self.folder, name=self.name, environment={**environment, "PROFILE_TURN": str(self.turn)})

    @property
    def is_ready(self) -> bool:
        return (self.turn / "ready").exists()

    @property
    def is_over(self) -> bool:
        return (self.turn / "over").exists()

    @property
    def is_done(self) -> bool:
        return self.outcome is not None or self.failure is not None


def profile_batch(batch: Batch) -> Iterator[tuple[int, Profile]]:
    """Yield the index and the record of each request as soon as all its passes are done. Never raises for what a program does."""
    until = time.monotonic() + batch.seconds
    limits = [{name: limit.value for name, limit in get_target(request.target).limits().items()} for request in batch.requests]
    with ThreadPoolExecutor(max_workers=4) as pool:
        compiled = {index: pool.submit(_compile, request) for index, request in enumerate(batch.requests) if "compile" in request.passes}
        runner = _Runner(batch, until)
        try:
            for index in runner.finished_requests():
                profiles = [*runner.profiles(index), *_compiled(compiled.get(index), batch.requests[index], until)]
                yield index, whole_profile(batch.requests[index], profiles, limits[index])
        finally:
            runner.stop()
            for waiting in compiled.values():
                waiting.cancel()


def _compile(request: Request) -> Profile:
    try:
        return static_profile(request.candidate, request.problem, get_target(request.target), timeout_s=request.timeout_s)
    except ToolsError as error:
        return absent(request.target, "compile", "failed", str(error))


def _compiled(waiting: Future[Profile] | None, request: Request, until: float) -> list[Profile]:
    if waiting is None:
        return []
    try:
        return [waiting.result(timeout=max(1.0, until - time.monotonic()))]
    except TimeoutError:
        return [absent(request.target, "compile", "timeout", "the study's time was up")]


@dataclass
class _Runner:
    batch: Batch
    until: float
    tasks: list[_Task] = field(default_factory=list)

    def __post_init__(self) -> None:
        metrics: tuple[str, ...] = ()
        with contextlib.suppress(ReportError):
            if any("ncu" in request.passes for request in self.batch.requests):
                metrics = known_metrics(self.batch.folder)
        for index, request in enumerate(self.batch.requests):
            self.tasks += _tasks(index, request, self.batch, metrics)
        self.tasks.sort(key=lambda task: ORDER.index(task.name))
        self._environment = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "2"), "TMPDIR": str(self.batch.folder)}
        # one temporary folder for all: ncu keeps its lock between processes there

    def finished_requests(self) -> Iterator[int]:
        """Run everything, a wave of programs at a time; yield requests as they are complete."""
        told: set[int] = set()
        for first in range(0, len(self.tasks), self.batch.parallel) or [0]:
            wave = self.tasks[first : first + self.batch.parallel]
            self._prepare(wave)
            for task in self._turns(wave):
                self.batch.say(f"{task.request.problem.problem_id} {task.name}: {_word(task)}")
                self.batch.passed(task.index, task.name, _read(task, []))
                yield from self._complete(told)
        yield from self._complete(told)

    def profiles(self, index: int) -> list[Profile]:
        """Return what the passes of a request wrote."""
        found: list[Profile] = []
        for task in (task for task in self.tasks if task.index == index):
            found.append(_read(task, found))
        return found

    def stop(self) -> None:
        """Kill what runs."""
        for task in self.tasks:
            if task.child is not None and task.outcome is None:
                task.outcome = task.child.end()

    def _complete(self, told: set[int]) -> Iterator[int]:
        for index in range(len(self.batch.requests)):
            if index not in told and all(task.is_done for task in self.tasks if task.index == index):
                told.add(index)
                yield index

    def _prepare(self, wave: Sequence[_Task]) -> None:
        began = time.monotonic()
        for task in wave:
            if not task.is_done:
                task.start(self._environment)
        limit = min(self.until, began + PREPARE_S)
        while time.monotonic() < limit and any(_is_preparing(task) for task in wave):
            time.sleep(_TICK_S)
        ready = sum(1 for task in wave if task.is_ready)
        self.batch.say(f"{ready} of {len(wave)} programs ready after {time.monotonic() - began:.1f} s")

    def _turns(self, wave: Sequence[_Task]) -> Iterator[_Task]:
        """Let one program measure at a time, in order among those that are ready; yield each when it has ended. A program that still writes holds nobody up."""
        while open_tasks := [task for task in wave if not task.is_done]:
            if time.monotonic() > self.until:
                self._wait_for([task for task in open_tasks if task.is_ending])
                for task in open_tasks:
                    self._end(task)
                yield from open_tasks
                return
            for task in open_tasks:
                if task.is_ending and task.child is not None and task.child.has_ended:
                    self._end(task)
                    if task.is_done:
                        yield task
            chosen = next((task for task in open_tasks if _may_measure(task)), None)
            if chosen is None:
                time.sleep(_TICK_S)
                continue
            (chosen.turn / "go").touch()
            limit = min(time.monotonic() + chosen.request.timeout_s, self.until)
            assert chosen.child is not None
            while time.monotonic() < limit and not chosen.is_over and not chosen.child.has_ended:
                time.sleep(_TICK_S / 4)
            if chosen.is_over and not chosen.child.has_ended:
                chosen.is_ending = True
                continue
            self._end(chosen)
            if chosen.is_done:
                yield chosen

    def _wait_for(self, tasks: Sequence[_Task]) -> None:
        """Give programs that have measured a little time to write."""
        until = time.monotonic() + WRITE_S
        while time.monotonic() < until and any(task.child is not None and not task.child.has_ended for task in tasks):
            time.sleep(_TICK_S)

    def _end(self, task: _Task) -> None:
        """Take the outcome; a program that wrote nothing gets its next attempt."""
        if task.child is None:
            task.failure = absent(task.request.target, task.name, "timeout", "the study's time was up before it began")
            return
        outcome = task.child.end()
        wrote = task.report.exists() and task.report.stat().st_size > 0 and _SIGNS.get(task.name, b"") in task.report.read_bytes()
        if not wrote and task.attempts and outcome.status is not None and time.monotonic() < self.until:
            self.batch.say(f"{task.request.problem.problem_id} {task.name}: tried again, {outcome.output.strip()[-200:]!r}")
            task.start(self._environment)
            return
        task.outcome = outcome


def _may_measure(task: _Task) -> bool:
    return not task.is_done and not task.is_ending and task.child is not None and (task.is_ready or task.child.has_ended)


def _is_preparing(task: _Task) -> bool:
    return task.child is not None and not task.is_done and not task.is_ready and not task.child.has_ended


def _word(task: _Task) -> str:
    if task.failure is not None:
        return task.failure.missing[0].reason
    assert task.outcome is not None
    return f"{'killed' if task.outcome.status is None else f'code {task.outcome.status}'}, {task.outcome.seconds:.1f} s since its start"


def _tasks(index: int, request: Request, batch: Batch, metrics: Sequence[str]) -> list[_Task]:
    folder = batch.folder.absolute() / f"{index:02d}-{request.problem.problem_id.rpartition('/')[2]}"
    folder.mkdir(parents=True, exist_ok=True)
    device = get_target(request.target).describe().torch_device or "cpu"
    settings = Settings(device=device, seed=request.seed, workload=request.workload, calls=request.calls)
    write_scripts(script_files(request.candidate, request.problem, settings), folder)
    return [_task(index, name, request, folder, batch, metrics) for name in ORDER if name in request.passes]


def _task(index: int, name: str, request: Request, folder: Path, batch: Batch, metrics: Sequence[str]) -> _Task:
    task = _Task(index, name, request, folder, [], folder / name, folder / f"turn-{name}")
    try:
        if name == "ncu":
            task.report = folder / "ncu.csv"
            task.attempts = ncu_attempts(request, "ncu.csv", metrics)
        elif name == "regions":
            study = study_of(request.candidate.source, request.target)
            task.study = Study(study.changed[: batch.max_variants], study.marked[: batch.max_variants])
            names = write_variants(request.candidate.source, folder, task.study)
            task.report = folder / "variants.json"
            if not names:
                task.failure = absent(request.target, name, "unsupported", "the candidate has no Triton kernel to time regions of")
            only = [name for name in names if name.startswith("clocks")]  # a variant that changes what is computed may end the process
            task.attempts = [[sys.executable, "time_variants.py", "variants.json", *some] for some in (names, only) if some]
        elif name == "marks":
            write_variants(request.candidate.source, folder, Study((), ()))
            task.report = folder / "instrumented.hatchet"
            task.attempts = [[sys.executable, "profile_instrumented.py", "instrumented"]]
        else:
            script, report = script_of(name, request)
            task.report = folder / report
            task.attempts = [[sys.executable, script, request.which]]
            if name == "proton":
                task.attempts.append([sys.executable, script, request.which, "--torch-cupti"])
    except (ToolsError, SyntaxError) as error:
        task.failure = absent(request.target, name, error.kind if isinstance(error, ReportError) else "failed", str(error))
    return task


def _read(task: _Task, before: Sequence[Profile]) -> Profile:
    """Return a task's profile, or the record of why there is none."""
    if task.failure is not None:
        return task.failure
    assert task.outcome is not None
    if task.name == "regions" and task.study is not None:
        try:
            measured = json.loads(task.report.read_text(encoding="utf-8"))
            return measured_regions(task.request.target, task.study, measured, before)
        except (OSError, ValueError, KeyError):
            return read_pass(task.request, task.name, task.folder / "absent", task.outcome, _HOW)
    found = read_pass(task.request, task.name, task.report, task.outcome, _HOW)
    if task.name == "marks" and found.regions:
        times = [_value(task.folder / "variants.json", "synchronised_us"), _value(task.folder / "instrumented.json", "instrumented_us")]
        found = dataclasses.replace(held_against_base(found, *times), kernels=())
    return found


def _value(path: Path, name: str) -> float | None:
    try:
        return float(json.loads(path.read_text(encoding="utf-8"))[name])
    except (OSError, ValueError, KeyError, TypeError):
        return None
