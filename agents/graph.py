"""The search as one LangGraph graph: plan → select → sessions → record → reflect → (select | finalists → publish).

Functions here are steps. Each may run again after a kill and then changes nothing: what it decides follows from the run store and the checkpointed
state, and what it writes is keyed by content.
"""

from __future__ import annotations

import asyncio
import contextvars
import dataclasses
import logging
import random
from typing import Any

from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime
from langgraph.types import Send

from agents.context import RunContext, StartingPoint
from agents.outcome import publish
from agents.planner import plan
from agents.recording import record_round, view_of
from agents.reflection import measure_finalists, reason_to_stop
from agents.runs.hashing import derived_seed
from agents.session import build_session_graph
from agents.state import SearchState, SessionState
from agents.strategies.base import Expansion
from agents.threads import in_thread
from agents.types import Memory
from kb.types import WinnerMatch

logger = logging.getLogger(__name__)


def build_graph(checkpointer: Any = None) -> Any:  # Any: langgraph's compiled graph and savers carry four type parameters of their own
    """Return the compiled search graph; its state is a `SearchState`, its context a `RunContext`."""
    graph = StateGraph(SearchState, context_schema=RunContext)
    graph.add_node("plan", plan_step)
    graph.add_node("select", select_step)
    graph.add_node("session", session_step)
    graph.add_node("record", record_step)
    graph.add_node("reflect", reflect_step)
    graph.add_node("finalists", finalists_step)
    graph.add_node("publish", publish_step)
    graph.add_edge(START, "plan")
    graph.add_edge("plan", "select")
    graph.add_conditional_edges("select", _after_select, ["session", "finalists"])
    graph.add_edge("session", "record")
    graph.add_edge("record", "reflect")
    graph.add_conditional_edges("reflect", lambda state: "finalists" if state["stop"] else "select", ["finalists", "select"])
    graph.add_edge("finalists", "publish")
    graph.add_edge("publish", END)
    return graph.compile(checkpointer=checkpointer)


async def plan_step(state: SearchState, runtime: Runtime[RunContext]) -> dict[str, Any]:
    """Describe the problem and look up what earlier runs left for it."""
    context = runtime.context
    signature = await context.coder.signature(context.problem, context.target) if context.base is not None else ""
    found = await in_thread(lambda: plan(context.base, context.problem, context.target, signature, context.config.max_seeds))
    for match in (*found.same, *found.siblings):
        context.winners[match.winner_id] = StartingPoint(match.winner, match.chunk_ids)
    context.tell(
        "planned",
        signature=signature,
        same=[_starting_point(match) for match in found.same],
        siblings=[_starting_point(match) for match in found.siblings],
    )
    return {
        "signature": signature,
        "seeds": [match.winner_id for match in found.same],
        "winner_ids": [match.winner_id for match in (*found.same, *found.siblings)],
        "round": 0,
        "pending": [],
        "idle_rounds": 0,
        "stop": "",
    }


def _starting_point(match: WinnerMatch) -> dict[str, Any]:
    return {"winner_id": match.winner_id, "chunk_ids": list(match.chunk_ids), "winner": dataclasses.asdict(match.winner)}


async def select_step(state: SearchState, runtime: Runtime[RunContext]) -> dict[str, Any]:
    """Choose the sessions of the next round and give each its share of the evaluations that are left."""
    context = runtime.context
    if reason := context.ended_budget():
        return {"stop": reason, "pending": []}
    left = context.left().evaluations
    width = context.config.width if left is None else min(context.config.width, left)
    seeds = state["seeds"]
    if seeds:
        chosen = [(Expansion(memory=Memory.CLEAN), seed_id) for seed_id in seeds[:width]]
        seeds = seeds[width:]
    else:
        rng = random.Random(derived_seed(context.config.seed, "select", state["round"]))
        selection = context.strategy.select(view_of(context), rng, width)
        if selection.stop:
            return {"stop": selection.stop, "pending": []}
        chosen = [(expansion, "") for expansion in selection.expansions[:width]]
    most = context.config.limits.attempts
    share = most if left is None else min(most, max(1, left // len(chosen)))
    known = len(context.history())
    pending = [
        SessionState(
            session_id=f"r{state['round']:05d}-{sibling:03d}",
            round=state["round"],
            sibling=sibling,
            parents=list(expansion.parents),
            memory=expansion.memory.value,
            algorithm=dict(expansion.algorithm),
            seed_id=seed_id,
            winner_ids=state["winner_ids"],
            known=known,
            allotment=share,
            attempt=0,
            used=0,
            outcome="",
        )
        for sibling, (expansion, seed_id) in enumerate(chosen)
    ]
    return {"seeds": seeds, "pending": pending}


def _after_select(state: SearchState) -> list[Send] | str:
    return "finalists" if state["stop"] else [Send("session", session) for session in state["pending"]]


_SESSION_GRAPH = build_session_graph()


async def session_step(state: SessionState, runtime: Runtime[RunContext]) -> dict[str, Any]:
    """Run one session; what it achieves is in the run store."""
    # In a context of its own it inherits neither the checkpointer nor its settings: a session's memory is the run store.
    call = _SESSION_GRAPH.ainvoke(state, {"recursion_limit": 10_000}, context=runtime.context)
    await asyncio.create_task(call, context=contextvars.Context())
    return {}


async def record_step(state: SearchState, runtime: Runtime[RunContext]) -> dict[str, Any]:
    """Insert the round's sessions and nodes."""
    context = runtime.context
    before = len(context.history())
    record_round(context, state["pending"])
    # A repeat after a kill finds the nodes there already; the round's own nodes tell whether it brought anything.
    is_idle = not any(node.round == state["round"] for node in context.history())
    best = context.store.best_nodes(context.run_id, 1)
    context.tell(
        "recorded",
        round=state["round"],
        nodes=len(context.history()),
        new=len(context.history()) - before,
        best_fitness=best[0].fitness if best else 0.0,
        best_node=best[0].node_id if best else "",
    )
    return {"round": state["round"] + 1, "idle_rounds": state["idle_rounds"] + 1 if is_idle else 0, "pending": []}


async def reflect_step(state: SearchState, runtime: Runtime[RunContext]) -> dict[str, Any]:
    """Decide whether the search goes on."""
    return {"stop": reason_to_stop(runtime.context, state["idle_rounds"])}


async def finalists_step(state: SearchState, runtime: Runtime[RunContext]) -> dict[str, Any]:
    """Measure the best candidates again."""
    runtime.context.tell("stopped", reason=state["stop"])
    await measure_finalists(runtime.context)
    return {}


async def publish_step(state: SearchState, runtime: Runtime[RunContext]) -> dict[str, Any]:
    """Write back what was learned and close the run."""
    context = runtime.context
    result = await in_thread(lambda: publish(context, state["signature"], state["stop"]))
    context.tell("finished", status=result["status"])
    context.store.finish(context.run_id, result)
    return {}
