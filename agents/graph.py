"""The search as one LangGraph graph: plan → select → (hold) → sessions → record → reflect → (select | finalists → publish).

Functions here are steps. Each may run again after a kill and then changes nothing: what it decides follows from the run store and the checkpointed
state, and what it writes is keyed by content.
"""

from __future__ import annotations

import asyncio
import contextvars
import dataclasses
import logging
import random
from collections.abc import Sequence
from typing import Any

from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime
from langgraph.types import Send, interrupt

from agents.advisers import outline
from agents.coders.prompt import language_of_target, language_text, target_facts
from agents.context import RunContext, StartingPoint
from agents.learning import learn
from agents.outcome import publish
from agents.people import close_place, hear
from agents.planner import Plan, plan
from agents.recording import record_round
from agents.reflection import measure_finalists, reason_to_stop
from agents.runs.hashing import derived_seed
from agents.session import asked_brief, build_session_graph
from agents.state import SearchState, SessionState
from agents.strategies.base import Expansion
from agents.subject import questions
from agents.threads import in_thread
from agents.types import Memory
from agents.work_plan import WorkItem, is_plain, next_item, plan_by_rules
from kb.types import WinnerMatch
from tools.types import Status

logger = logging.getLogger(__name__)


def build_graph(checkpointer: Any = None) -> Any:  # Any: langgraph's compiled graph and savers carry four type parameters of their own
    """Return the compiled search graph; its state is a `SearchState`, its context a `RunContext`."""
    graph = StateGraph(SearchState, context_schema=RunContext)
    graph.add_node("plan", plan_step)
    graph.add_node("select", select_step)
    graph.add_node("hold", hold_step)
    graph.add_node("session", session_step)
    graph.add_node("record", record_step)
    graph.add_node("reflect", reflect_step)
    graph.add_node("finalists", finalists_step)
    graph.add_node("publish", publish_step)
    graph.add_edge(START, "plan")
    graph.add_edge("plan", "select")
    graph.add_conditional_edges("select", _after_select, ["hold", "session", "finalists"])
    graph.add_conditional_edges("hold", _after_select, ["select", "session", "finalists"])
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
    config = context.config
    found = await in_thread(
        lambda: plan(
            context.base, context.problem, context.target, signature, config.max_seeds, config.reuse_threshold, config.use_siblings
        )
    )
    context.store.describe_task(context.run_id, signature)
    items = await _divide(context, signature, found)
    for match in (*found.same, *found.siblings, *found.similar):
        context.winners[match.winner_id] = StartingPoint(match.winner, match.chunk_ids)
    context.tell(
        "planned",
        signature=signature,
        same=[_starting_point(match) for match in found.same],
        siblings=[_starting_point(match) for match in found.siblings],
        similar=[_starting_point(match) for match in found.similar],
    )
    seeds = [match.winner_id for match in found.same]
    others = [match.winner_id for match in found.foreign_drafts()]
    if not seeds:
        seeds, others = others[:1], others[1:]
    if not config.reuse:
        seeds, others = [], seeds + others
    return {
        "signature": signature,
        "seeds": seeds,
        "injectable": others if config.injection_rate else [],
        "items": [dataclasses.asdict(item) for item in items],
        "given": [0] * len(items),
        "adopted": 0,
        "winner_ids": [match.winner_id for match in (*found.same, *found.siblings)],
        "round": 0,
        "pending": [],
        "idle_rounds": 0,
        "stop": "",
        "hold": "",
        "notes": [],
        "asked": 0,
    }


async def _divide(context: RunContext, signature: str, found: Plan) -> tuple[WorkItem, ...]:
    """Divide the search, once per run: what was decided is an event, and a resumed run takes it from there."""
    for event in context.store.events(context.run_id, "divided"):
        return tuple(WorkItem(**item) for item in event.data["items"])
    evaluations = context.left().evaluations
    items: tuple[WorkItem, ...] = ()
    if context.advisers is not None and context.advisers.has("planner"):
        asked = questions(context.problem, context.target)
        told = {
            "The target": target_facts(context.target),
            "Knowledge": outline(await asked_brief(context, asked)) if context.base is not None and context.config.deep_search else "",
            "Earlier winners": "\n\n".join(match.winner.source for match in (*found.same, *found.siblings)[:2]),
        }
        language, drafts = language_text(language_of_target(context.target)), getattr(context.strategy, "drafts", None)
        items = await context.advisers.plan(
            context.problem, context.target, told, evaluations, context.meter, language, drafts, run_id=context.run_id
        )
    by = "model" if items else "rules"
    items = items or plan_by_rules(signature, context.target, evaluations)
    context.tell("divided", by=by, items=[dataclasses.asdict(item) for item in items])
    return items


def _starting_point(match: WinnerMatch) -> dict[str, Any]:
    return {"winner_id": match.winner_id, "chunk_ids": list(match.chunk_ids), "winner": dataclasses.asdict(match.winner)}


async def select_step(state: SearchState, runtime: Runtime[RunContext]) -> dict[str, Any]:
    """Hear what people asked for, choose the sessions of the next round, and give each its share of the evaluations that are left."""
    context = runtime.context
    wishes = hear(context, state.get("asked", 0))
    told: dict[str, Any] = {"asked": wishes.asked, "notes": [*state.get("notes", []), *wishes.notes], "hold": ""}
    budget = context.left()
    if reason := wishes.cancelled or context.ended_budget(budget):
        return {**told, "stop": reason, "pending": []}
    left = budget.evaluations
    width = context.config.width if left is None else min(context.config.width, left)
    seeds, injectable, adopted = list(state["seeds"]), list(state.get("injectable", [])), state.get("adopted", 0)
    chosen: list[tuple[Expansion, str]] = []
    if seeds:
        chosen = [
            (Expansion(memory=Memory.CLEAN, algorithm=context.strategy.adopt(adopted + index)), seed)
            for index, seed in enumerate(seeds[:width])
        ]
        seeds, adopted = seeds[width:], adopted + len(chosen)
    else:
        rng = random.Random(derived_seed(context.config.seed, "select", state["round"]))
        selection = context.strategy.select(context.store.graph(context.run_id), rng, width)
        if selection.stop:
            return {**told, "stop": selection.stop, "pending": []}
        for expansion in selection.expansions[:width]:
            if injectable and rng.random() < context.config.injection_rate:
                chosen.append((Expansion(memory=Memory.CLEAN, algorithm=context.strategy.adopt(adopted)), injectable.pop(0)))
                adopted += 1
            else:
                chosen.append((expansion, ""))
    most = context.config.limits.attempts + context.config.limits.polish
    share = most if left is None else min(most, max(1, left // len(chosen)))
    known = context.store.num_nodes(context.run_id)
    given = list(state.get("given", []))
    directed = [_directive(state.get("items", []), given, expansion, seed_id) for expansion, seed_id in chosen]
    pending = [
        SessionState(
            session_id=f"r{state['round']:05d}-{sibling:03d}",
            round=state["round"],
            sibling=sibling,
            parents=list(expansion.parents),
            memory=expansion.memory.value,
            algorithm=dict(expansion.algorithm),
            seed_id=seed_id,
            directive=directive,
            item=item,
            winner_ids=state["winner_ids"],
            notes=told["notes"],
            known=known,
            allotment=share,
            attempt=0,
            used=0,
            outcome="",
        )
        for sibling, ((expansion, seed_id), (item, directive)) in enumerate(zip(chosen, directed, strict=True))
    ]
    hold = "pause" if wishes.is_paused else "approve" if context.config.approve else ""
    return {**told, "seeds": seeds, "injectable": injectable, "adopted": adopted, "given": given, "pending": pending, "hold": hold}


def _directive(
    items: Sequence[dict[str, Any]], given: list[int], expansion: Expansion, seed_id: str
) -> tuple[int, str]:  # Any: JSON of a WorkItem
    """Return which item of the plan the next session works on, and its text; (-1, "") where the plan has nothing for it.

    One evaluation is counted in `given`; what the session used beyond that is added when it is recorded.
    """
    plan_items = [WorkItem(**item) for item in items]
    if seed_id or is_plain(plan_items):
        return -1, ""
    index = next_item(plan_items, given, "improve" if expansion.parents else "draft")
    if index is None:
        return -1, ""
    given[index] += 1
    return index, plan_items[index].text()


def _after_select(state: SearchState) -> list[Send] | str:
    if state["stop"]:
        return "finalists"
    if state.get("hold"):
        return "hold"
    if not state["pending"]:
        return "select"
    return [Send("session", session) for session in state["pending"]]


async def hold_step(state: SearchState, runtime: Runtime[RunContext]) -> dict[str, Any]:
    """Wait for a person: LangGraph's interrupt ends this call of the graph, and the next one brings the answer (`yes`, `no` or `stop`).

    `no` refuses the sessions that were to be started: what they would have expanded is not expanded any more.
    """
    sessions = [{"parents": item["parents"], "memory": item["memory"], "algorithm": item["algorithm"]} for item in state["pending"]]
    answer = interrupt({"kind": state["hold"], "round": state["round"], "sessions": sessions})
    if answer == "stop":
        return {"hold": "", "stop": "a person stopped the search", "pending": []}
    if answer == "no":
        for item in state["pending"]:
            close_place(runtime.context, item["parents"])
        return {"hold": "", "pending": [], "round": state["round"] + 1}
    return {"hold": ""}


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
    store, run_id = context.store, context.run_id
    new = record_round(context, state["pending"])
    given = list(state.get("given", []))
    for session in state["pending"]:
        if 0 <= session.get("item", -1) < len(given):
            attempts = context.attempts(session["session_id"])
            measured = sum(
                item.evaluation is not None and item.evaluation.status is not Status.LINT_ERROR and not item.duplicate_of
                for item in attempts
            )
            given[session["item"]] += max(0, measured - 1)
    # A repeat after a kill finds the nodes there already; the round's own nodes tell whether it brought anything.
    is_idle = not any(node.round == state["round"] for node in store.node_summaries(run_id, 1))
    best = store.best_fitness(run_id)
    context.tell(
        "recorded",
        round=state["round"],
        nodes=store.num_nodes(run_id),
        new=new,
        best_fitness=best[1] if best else 0.0,
        best_node=best[0] if best else "",
    )
    return {"round": state["round"] + 1, "idle_rounds": state["idle_rounds"] + 1 if is_idle else 0, "pending": [], "given": given}


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
    await learn(context, state["signature"])
    result = await in_thread(lambda: publish(context, state["signature"], state["stop"]))
    context.tell("finished", status=result["status"])
    context.store.finish(context.run_id, result)
    return {}
