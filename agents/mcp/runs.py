"""What the tools say of runs: the next candidate that is wanted, what became of a submission, and how a run stands."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping
from typing import Any

from agents.coders.prompt import compose
from agents.mcp.errors import CallError
from agents.mcp.jobs import Report
from agents.mcp.laboratory import Drive, Laboratory
from agents.mcp.limits import MAX_ITEMS, waited
from agents.mcp.outside import Ticket
from agents.outcome import evaluation_to_json
from agents.prompts import render
from agents.runs.store import RunStore
from agents.threads import in_thread
from tools.types import Evaluation

_TOLD_EVERY_S = 2.0


async def next_node(laboratory: Laboratory, run_id: str, wait_s: float, report: Report) -> dict[str, Any]:  # Any: JSON
    """Wait until the search wants a candidate, and return the prompt for it; or the result, if the run has ended."""
    drive = laboratory.drive(run_id)
    await _until(drive, lambda: bool(drive.coder.tickets()), wait_s, report, "the search is choosing what to expand")
    tickets = drive.coder.tickets()
    if tickets:
        return _wanted(tickets[0], len(tickets))
    if not drive.task.done():
        return {"run_id": run_id, "state": "busy", "phase": _phase(drive), "next": "call next_node again"}
    return await _ended(laboratory, drive)


async def outcome_of(
    laboratory: Laboratory, drive: Drive, ticket: Ticket, candidate_id: str, since: int, wait_s: float, report: Report
) -> dict[str, Any]:  # Any: JSON
    """Wait for the verdict on a submission; return it, or that it is still awaited."""

    def verdict() -> Mapping[str, Any] | None:  # Any: JSON
        for event in drive.events[since:]:
            if event.kind == "evaluated" and event.data.get("candidate_id") == candidate_id:
                return {"kind": "evaluated", **event.data}
            if event.kind == "written" and event.data.get("duplicate_of"):
                return {"kind": "duplicate", **event.data}
        return None

    await _until(drive, lambda: verdict() is not None, wait_s, report, "linting, checking and timing the candidate")
    found = verdict()
    run_id = drive.coder.run_id
    if found is None:
        if drive.task.done():
            return await _ended(laboratory, drive)
        return {
            "run_id": run_id,
            "ticket_id": ticket.ticket_id,
            "candidate_id": candidate_id,
            "state": "evaluating",
            "phase": _phase(drive),
            "next": "call next_node: it waits for the verdict and gives it with the next ticket",
        }
    if found["kind"] == "duplicate":
        return {
            "run_id": run_id,
            "candidate_id": candidate_id,
            "state": "duplicate",
            "duplicate_of": found["duplicate_of"],
            "next": "this repeats an earlier candidate and was not evaluated again; call next_node and propose something else",
        }
    evaluation = await in_thread(lambda: _evaluation(laboratory.store, run_id, found["session"], found["attempt"]))
    return {
        "run_id": run_id,
        "candidate_id": candidate_id,
        "state": "evaluated",
        "evaluation": evaluation_to_json(evaluation) if evaluation else None,
        "best_fitness": _best(drive),
        "next": "call next_node for the next candidate that the search wants",
    }


def read_run(store: RunStore, run_id: str) -> dict[str, Any]:  # Any: JSON
    """Return how a run stands: problem, what was spent, its nodes in short, its result. Blocking."""
    from agents.show import run_to_json

    record = store.run(run_id)
    nodes = store.nodes(record.run_id)
    spent = store.spent(record.run_id)
    told = run_to_json(record)
    for name in ("config", "versions"):
        told.pop(name)
    best = max(nodes, key=lambda node: node.fitness, default=None)
    return {
        **told,
        "num_evaluations": spent.evaluations,
        "tokens": spent.tokens,
        "num_nodes": len(nodes),
        "best_node": best.node_id if best is not None and best.fitness > 0 else None,
        "nodes": [
            {
                "node_id": node.node_id,
                "parents": list(node.parents),
                "status": node.evaluation.status.value,
                "reason": node.evaluation.reason[:300],
                "fitness": round(node.fitness, 4),
                "latency_ms": node.evaluation.latency_ms,
                "notes": node.notes[:300],
            }
            for node in nodes[-MAX_ITEMS:]
        ],
    }


def read_node(store: RunStore, node_id: str) -> dict[str, Any]:  # Any: JSON
    """Return a node with its source. Blocking."""
    from agents.show import node_to_json

    run_id, node = store.find_node(node_id)
    return {"run_id": run_id, **node_to_json(node), "source": node.candidate.source}


def _evaluation(store: RunStore, run_id: str, session_id: str, attempt: int) -> Evaluation | None:
    attempts = store.attempts(run_id, session_id)
    return attempts[attempt - 1].evaluation if 0 < attempt <= len(attempts) else None


def _wanted(ticket: Ticket, waiting: int) -> dict[str, Any]:  # Any: JSON
    task = ticket.task
    prompt = compose(task)
    return {
        "run_id": ticket.ticket_id.partition(".")[0],
        "state": "candidate_wanted",
        "ticket_id": ticket.ticket_id,
        "tickets_waiting": waiting,
        "target": task.target,
        "attempt": task.attempt,
        "parents": [parent.node_id for parent in task.parents],
        "evaluations_left": task.budget_left.evaluations,
        "seconds_left": task.budget_left.seconds,
        "rules": render("rules.md"),
        "prompt": prompt.text,
        "cited_chunk_ids": list(prompt.chunk_ids),
        "left_out": list(prompt.left_out),
        "next": "write kernel.py and call submit with this ticket_id",
    }


async def _ended(laboratory: Laboratory, drive: Drive) -> dict[str, Any]:  # Any: JSON
    run_id = drive.coder.run_id
    if not drive.task.cancelled() and (error := drive.task.exception()) is not None:
        from agents.mcp.errors import is_expected

        if isinstance(error, Exception) and is_expected(error):
            if (await in_thread(lambda: laboratory.store.run(run_id))).result is not None:
                raise CallError(f"run {run_id} is closed: {error}. Mend the problem and call start_run") from error
            raise CallError(f"run {run_id} stopped and stays open: {error}. Mend the cause and call resume_run") from error
        raise error
    told = await in_thread(lambda: read_run(laboratory.store, run_id))
    return {"run_id": run_id, "state": "finished", "best_fitness": _best(drive), "result": told["result"]}


async def _until(drive: Drive, holds: Any, wait_s: float, report: Report, phase: str) -> None:  # Any: a plain predicate
    deadline = time.monotonic() + waited(wait_s)
    began = time.monotonic()
    told = began
    async with drive.coder.changed:
        while not holds() and not drive.task.done() and (left := deadline - time.monotonic()) > 0:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(drive.coder.changed.wait(), timeout=min(_TOLD_EVERY_S, left))
            if time.monotonic() - told >= _TOLD_EVERY_S:
                told = time.monotonic()
                await report(told - began, phase)


def _phase(drive: Drive) -> str:
    return drive.events[-1].kind if drive.events else "starting"


def _best(drive: Drive) -> float:
    return max((float(event.data.get("fitness") or 0.0) for event in drive.events if event.kind == "evaluated"), default=0.0)
