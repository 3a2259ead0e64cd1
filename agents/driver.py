"""Drive a run in this process: create or take it over, beat its lease, run the graph, and give it back. The one function behind `kevolve run` and `resume`."""

from __future__ import annotations

import logging
import platform
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING, Any

from agents.coders.base import Coder
from agents.config import RunConfig
from agents.context import Evaluator, Lint, Report, RunContext, StartingPoint
from agents.errors import RunPaused, RunStateError, RunStoreError
from agents.outcome import publish_fault
from agents.runs.store import RunStore
from agents.strategies.registry import create_strategy
from agents.threads import in_thread
from tools.errors import ProblemError
from tools.types import Problem

if TYPE_CHECKING:
    from agents.advisers import Advisers
    from agents.profiles import Profiler
    from kb.store import KnowledgeBase

logger = logging.getLogger(__name__)

BEAT_S = 1.0
"""Time between two signs of life of a lease, in s; a killed run forgets at most so much of its wall time."""
_PACKAGES = ("kernelevolve", "torch", "triton", "langgraph", "langchain-core", "chromadb", "sentence-transformers")


@dataclass(frozen=True)
class Machinery:
    """What runs need from outside, built by the caller."""

    coder: Coder
    evaluator: Evaluator
    lint: Lint
    base: KnowledgeBase | None = None
    report: Report = lambda _: None
    advisers: Advisers | None = None
    """Models of other roles than the coder's; None: rules alone."""
    profiler: Profiler | None = None
    """Looks at candidates that sessions build on; None: the diagnosis goes by evaluations alone."""


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that results depend on."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def create_run(store: RunStore, problem: Problem, target: str, config: RunConfig) -> str:
    """Insert a run and hold its lease; return its id.

    Raises:
        UnknownNameError: The strategy or one of its options does not exist.
        OptionError: An option of the strategy has a value that cannot be used.
    """
    create_strategy(config.strategy, config.strategy_options)
    return store.create_run(
        problem,
        target=target,
        strategy=config.strategy,
        coder=config.coder,
        seed=config.seed,
        config=config.to_json(),
        versions=versions(),
    )


Ask = Callable[[Mapping[str, Any]], str]
"""Shows a person what is to be done (`kind`, `round`, `sessions`) and returns `yes`, `no` or `stop`; called in a thread. Any: JSON"""


async def drive(
    store: RunStore, run_id: str, machinery: Machinery, ask: Ask | None = None
) -> Mapping[str, Any]:  # Any: JSON, see `agents.outcome`
    """Run the search of an open run to its end and return the published result.

    The lease must be held. It is given back however this ends; a run that did not finish stays open and can be driven again, except one
    whose problem cannot be used and that has no node yet: it is closed, with the reason as its result.

    Args:
        ask: Answers for a person where the run wants approval; None: nobody is there, and the run pauses.

    Raises:
        RunPaused: A person paused the run, or nobody was there to approve.
        RunStateError: Another process took the run over meanwhile.
        ProblemError: The problem cannot be used.
        AgentsError, ToolsError, KnowledgeError: The set-up fails; the run stays open.
    """
    record = store.run(run_id)
    config = RunConfig.from_json(record.config)
    context = RunContext(
        store=store,
        run_id=run_id,
        problem=record.problem,
        target=record.target,
        config=config,
        strategy=create_strategy(config.strategy, config.strategy_options),
        coder=machinery.coder,
        evaluator=machinery.evaluator,
        lint=machinery.lint,
        base=machinery.base,
        report=machinery.report,
        advisers=machinery.advisers,
        profiler=machinery.profiler if config.profiles else None,
        seconds_before=record.seconds,
    )
    try:
        with _Heartbeat(store, run_id, context.clock):
            await _run_graph(store, run_id, context, ask)
    finally:
        store.release(run_id)
    result = store.run(run_id).result
    assert result is not None, "a run that ended has published its result"
    return result


async def _run_graph(store: RunStore, run_id: str, context: RunContext, ask: Ask | None) -> None:
    from langgraph.types import Command

    from agents.graph import build_graph
    from agents.runs.checkpoints import open_checkpoints

    async with open_checkpoints(store) as saver:
        graph = build_graph(saver)
        settings = {"configurable": {"thread_id": run_id}, "recursion_limit": 1_000_000_000, "max_concurrency": context.config.width}
        snapshot = await graph.aget_state(settings)
        given: Any = {}  # Any: what langgraph takes to start, to go on, or as an answer
        # Not `snapshot.next`: it is empty also where a step is done and its checkpoint is not, as after a kill between the two.
        if snapshot.created_at is not None:
            store.rebuild_places(run_id, context.strategy.needs)
            _restore_winners(context)
            given = None
        held = snapshot.interrupts
        if held and held[0].value["kind"] == "pause":
            given, held = Command(resume="yes"), ()  # resuming is the answer
        while True:
            if held:
                if ask is None or held[0].value["kind"] == "pause":
                    raise RunPaused(_paused_message(run_id, held[0].value))
                question = held[0].value
                given = Command(resume=await in_thread(lambda: ask(question)))  # noqa: B023 - awaited at once
            try:
                await graph.ainvoke(given, settings, context=context, durability="sync")
            except ProblemError as error:
                if not store.num_nodes(run_id):
                    store.finish(run_id, publish_fault(context, str(error)))
                    await saver.adelete_thread(run_id)
                raise
            held = (await graph.aget_state(settings)).interrupts
            if not held:
                break
        if store.run(run_id).result is not None:
            await saver.adelete_thread(run_id)


def _paused_message(run_id: str, question: Mapping[str, Any]) -> str:  # Any: JSON
    if question["kind"] == "pause":
        return f"run {run_id} is paused after {question['round']} rounds; `kevolve resume {run_id}` continues it"
    return f"run {run_id} waits for approval of {len(question['sessions'])} sessions; `kevolve resume {run_id} --answer yes|no|stop` continues it"


def _restore_winners(context: RunContext) -> None:
    """Take the winners of the plan from the event that announced it, so that a resumed run starts from the very same ones."""
    from kb.types import Winner

    for item in context.store.events(context.run_id, "planned")[-1:]:
        for start in (*item.data["same"], *item.data["siblings"], *item.data.get("similar", ())):
            context.winners[start["winner_id"]] = StartingPoint(Winner(**start["winner"]), tuple(start["chunk_ids"]))


class _Heartbeat:
    """Beats the lease from a thread of its own, so that long steps do not look dead, and adds up the wall time."""

    def __init__(self, store: RunStore, run_id: str, clock: Callable[[], float]) -> None:
        self._store, self._run_id, self._clock = store, run_id, clock
        self._end = threading.Event()
        self._last = clock()
        self._thread = threading.Thread(target=self._work, daemon=True, name="kevolve-heartbeat")

    def __enter__(self) -> _Heartbeat:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()
        self._beat()

    def _work(self) -> None:
        while not self._end.wait(BEAT_S):
            if not self._beat():
                return

    def _beat(self) -> bool:
        now = self._clock()
        try:
            self._store.beat(self._run_id, now - self._last)
        except (RunStateError, RunStoreError) as error:
            # The next step that writes meets the same error and ends the run; here it can only be told.
            logger.warning("no sign of life: %s", error)
            return False
        self._last = now
        return True
