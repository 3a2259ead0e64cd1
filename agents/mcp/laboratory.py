"""What the server works with: one home, one knowledge base, one evaluator that calls share, the runs that it drives. Made when the server starts."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agents.config import RunConfig
from agents.mcp.errors import CallError
from agents.mcp.jobs import Job, Jobs
from agents.mcp.limits import MAX_SOURCE_CHARACTERS, taken
from agents.mcp.outside import OutsideCoder
from agents.outcome import evaluation_to_json
from agents.runs.records import Event
from agents.runs.store import RunStore
from agents.threads import in_thread
from tools.languages import language_of
from tools.types import EFFORTS, Candidate, Effort, Evaluation, Problem

if TYPE_CHECKING:
    from agents.context import Evaluator
    from kb.store import KnowledgeBase

logger = logging.getLogger(__name__)

LANGUAGES = ("triton", "cpp", "torch")
MAX_RUNS = 16
"""Runs that the server drives at the same time."""
_MAX_COMPILERS = 2


class TurnTaking:
    """One evaluator for many callers: evaluations take turns, in the order in which they were asked for. See `agents.context.Evaluator`."""

    def __init__(self, evaluator: Evaluator) -> None:
        self._evaluator = evaluator
        self._lock = threading.Lock()

    def evaluate(
        self,
        candidate: Candidate,
        problem: Problem,
        *,
        target: str,
        effort: Effort,
        seed: int,
        begun: Callable[[], None] = lambda: None,
    ) -> Evaluation:
        """Wait for the turn, call `begun`, evaluate."""
        with self._lock:
            begun()
            return self._evaluator.evaluate(candidate, problem, target=target, effort=effort, seed=seed)

    def wait(self) -> None:
        """Return once no evaluation is under way."""
        with self._lock:
            return


@dataclass
class Drive:
    """A run that this server drives for an outside agent."""

    coder: OutsideCoder
    task: asyncio.Task[Any] = field(init=False)
    events: list[Event] = field(default_factory=list)
    """What happened since the server took the run over, oldest first."""


class Laboratory:
    """The state behind the tools. Use it from one event loop.

    Args:
        home: State directory.
        reads_files: Whether callers may name problems by a path on this machine.
        evaluator: Measures candidates; None: `LocalEvaluator`, whose processes end with the laboratory.
    """

    def __init__(self, home: Path, *, reads_files: bool = True, evaluator: Evaluator | None = None) -> None:
        from tools.evaluator import LocalEvaluator

        self.home = home
        self.reads_files = reads_files
        self.jobs = Jobs()
        self._stack = ExitStack()
        self.evaluator = TurnTaking(evaluator or self._stack.enter_context(LocalEvaluator(home)))
        self.compilers = asyncio.Semaphore(_MAX_COMPILERS)
        self.drives: dict[str, Drive] = {}
        self._base: KnowledgeBase | None = None
        self._opening = threading.Lock()
        self.store = self._stack.enter_context(RunStore(home))

    def base(self) -> KnowledgeBase:
        """Return the knowledge base, opened when it is first needed. Blocking: call it in a thread."""
        from kb.store import KnowledgeBase

        with self._opening:
            if self._base is None:
                self._base = self._stack.enter_context(KnowledgeBase.open(self.home))
            return self._base

    async def close(self) -> None:
        """Stop driving: open runs stay open and can be resumed; then end every process and close the stores."""
        tasks = [drive.task for drive in self.drives.values() if not drive.task.done()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.jobs.close()
        await in_thread(self.evaluator.wait)
        self._stack.close()

    # --- arguments ---------------------------------------------------------------------------------------------------------

    def problem(self, problem: str, source: str) -> Problem:
        """Return the problem of a call: by name or by its source.

        Raises:
            CallError: Both or neither is given, or names a path where none may be read.
            ProblemError: There is no such problem, or it cannot be used.
        """
        from tools.problems import load_problem, problem_from_source

        if bool(problem.strip()) == bool(source.strip()):
            raise CallError(
                "give either `problem` (examples/NAME, kernelbench:LEVEL/NUMBER) or `problem_source` (the text of a problem file)"
            )
        if source.strip():
            text = taken("problem_source", source, MAX_SOURCE_CHARACTERS)
            made = problem_from_source(text, problem_id="inline")
            return dataclasses.replace(made, problem_id=f"inline:{made.source_hash[:12]}", name=f"inline {made.source_hash[:6]}")
        name = taken("problem", problem, 500)
        if not self.reads_files and (not name.startswith(("examples/", "kernelbench:")) or ".." in name):
            raise CallError(
                f"{name!r} is no name of a problem; give examples/NAME, kernelbench:LEVEL/NUMBER, or its text as problem_source"
            )
        return load_problem(name)

    def candidate(self, source: str, language: str) -> Candidate:
        """Return the candidate of a call.

        Raises:
            CallError: The source is empty or too long, or the language unknown.
        """
        text = taken("source", source, MAX_SOURCE_CHARACTERS)
        chosen = language or language_of(text)
        if chosen not in LANGUAGES:
            raise CallError(f"unknown language {language!r}; known: {', '.join(LANGUAGES)}; leave it out to go by the imports")
        return Candidate(source=text, language=chosen, provenance={"coder": "outside"})

    # --- evaluations -------------------------------------------------------------------------------------------------------

    def start_evaluation(self, candidate: Candidate, problem: Problem, target: str, effort: str, timeout_s: float | None) -> Job:
        """Start an evaluation as a job.

        Raises:
            CallError: No such effort, an unusable time limit, or too many jobs.
        """
        if effort not in EFFORTS:
            raise CallError(f"unknown effort {effort!r}; known: {', '.join(EFFORTS)}")
        chosen = EFFORTS[effort]
        if timeout_s is not None:
            if not 1 <= timeout_s <= chosen.timeout_s:
                raise CallError(f"timeout_s must be from 1 to {chosen.timeout_s:g} at effort {effort}, got {timeout_s!r}")
            chosen = dataclasses.replace(chosen, timeout_s=timeout_s)

        async def work(job: Job) -> dict[str, Any]:  # Any: JSON
            def begun() -> None:
                job.phase = f"checking and timing (at most {2 * chosen.timeout_s:.0f} s)"

            evaluation = await in_thread(
                lambda: self.evaluator.evaluate(candidate, problem, target=target, effort=chosen, seed=0, begun=begun)
            )
            return evaluation_to_json(evaluation)

        return self.jobs.start(f"evaluate {candidate.candidate_id} on {problem.problem_id}", work)

    # --- runs --------------------------------------------------------------------------------------------------------------

    async def start_run(self, problem: Problem, target: str, config: RunConfig) -> Drive:
        """Create a run and drive it; its candidates come from submissions."""
        from agents.driver import create_run

        self._check_room()
        run_id = await in_thread(lambda: create_run(self.store, problem, target, config))
        return self._drive(run_id, config)

    async def resume_run(self, run_id: str) -> Drive:
        """Take over an open run of an outside agent.

        Raises:
            CallError: It is driven here already, or was started with another coder.
            AgentsError: There is no such run, it is finished, or another process drives it.
        """
        self._check_room()
        record = await in_thread(lambda: self.store.run(run_id))
        if record.coder != "outside":
            raise CallError(f"run {record.run_id} writes its candidates with the {record.coder} coder; `kevolve resume` continues it")
        if record.run_id in self.drives and not self.drives[record.run_id].task.done():
            raise CallError(f"run {record.run_id} is driven here already; call next_node")
        await in_thread(lambda: self.store.acquire(record.run_id))
        return self._drive(record.run_id, RunConfig.from_json(record.config))

    def drive(self, run_id: str) -> Drive:
        """Return a run that this server drives or drove.

        Raises:
            CallError: There is none with this id.
        """
        if run_id not in self.drives:
            known = ", ".join(self.drives) or "none"
            raise CallError(f"run {run_id!r} is not driven here; driven: {known}. start_run begins one, resume_run takes over an open one")
        return self.drives[run_id]

    def _check_room(self) -> None:
        open_runs = [run_id for run_id, drive in self.drives.items() if not drive.task.done()]
        if len(open_runs) >= MAX_RUNS:
            raise CallError(f"{len(open_runs)} runs are open; finish one with finish_run first: {', '.join(open_runs)}")

    def _drive(self, run_id: str, config: RunConfig) -> Drive:
        drive = Drive(OutsideCoder(run_id))
        drive.task = asyncio.ensure_future(self._work(run_id, config, drive))
        drive.task.add_done_callback(lambda task: None if task.cancelled() else task.exception())
        self.drives[run_id] = drive
        return drive

    async def _work(self, run_id: str, config: RunConfig, drive: Drive) -> Any:  # Any: JSON
        from agents.driver import Machinery
        from agents.driver import drive as drive_run
        from agents.workbench import lint_errors
        from tools.targets.registry import get_target

        loop = asyncio.get_running_loop()

        def report(event: Event) -> None:
            drive.events.append(event)
            # Events may come from a thread.
            loop.call_soon_threadsafe(lambda: asyncio.ensure_future(drive.coder.tell()))

        try:
            base = await in_thread(self.base) if config.use_knowledge else None
            chip = get_target((await in_thread(lambda: self.store.run(run_id))).target)
            machinery = Machinery(
                coder=drive.coder,
                evaluator=self.evaluator,
                lint=lambda candidate: lint_errors(chip, candidate),
                base=base,
                report=report,
            )
            return await drive_run(self.store, run_id, machinery)
        finally:
            await drive.coder.tell()
