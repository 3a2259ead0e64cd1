"""Drive a run in this process: create or take it over, beat its lease, run the graph, and give it back. The one function behind `kevolve run` and `resume`."""

from __future__ import annotations

import logging
import platform
import threading
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING, Any

from agents.coders.base import Coder
from agents.config import RunConfig
from agents.context import Evaluator, Lint, Report, RunContext, StartingPoint
from agents.errors import RunStateError, RunStoreError
from agents.runs.store import RunStore
from agents.strategies.registry import create_strategy
from tools.types import Problem

if TYPE_CHECKING:
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


async def drive(store: RunStore, run_id: str, machinery: Machinery) -> Mapping[str, Any]:  # Any: JSON, see `agents.outcome`
    """Run the search of an open run to its end and return the published result.

    The lease must be held. It is given back however this ends; a run that did not finish stays open and can be driven again.

    Raises:
        RunStateError: Another process took the run over meanwhile.
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
        seconds_before=record.seconds,
    )
    try:
        with _Heartbeat(store, run_id, context.clock):
            await _run_graph(store, run_id, context)
    finally:
        store.release(run_id)
    result = store.run(run_id).result
    assert result is not None, "a run that ended has published its result"
    return result


async def _run_graph(store: RunStore, run_id: str, context: RunContext) -> None:
    import aiosqlite
    from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

    from agents.graph import build_graph

    async with AsyncExitStack() as stack:
        path = store.home / "checkpoints.sqlite"
        try:
            connection = await stack.enter_async_context(aiosqlite.connect(path))
            await connection.execute("PRAGMA busy_timeout=30000")
            # A checkpoint that a power failure takes back is older than the run store, and then steps find their work done.
            await connection.execute("PRAGMA synchronous=NORMAL")
            saver = AsyncSqliteSaver(connection)
            await saver.setup()
        except aiosqlite.Error as error:
            raise RunStoreError(f"cannot open the checkpoints {path}: {error}; check free space and permissions") from error
        graph = build_graph(saver)
        settings = {"configurable": {"thread_id": run_id}, "recursion_limit": 1_000_000_000, "max_concurrency": context.config.width}
        snapshot = await graph.aget_state(settings)
        is_resumed = bool(snapshot.next)
        if is_resumed:
            _restore_winners(context)
        await graph.ainvoke(None if is_resumed else {}, settings, context=context, durability="sync")
        if store.run(run_id).result is not None:
            await saver.adelete_thread(run_id)


def _restore_winners(context: RunContext) -> None:
    """Take the winners of the plan from the event that announced it, so that a resumed run starts from the very same ones."""
    from kb.types import Winner

    for item in context.store.events(context.run_id, "planned")[-1:]:
        for start in (*item.data["same"], *item.data["siblings"]):
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
