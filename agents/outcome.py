"""The published result of a run: the JSON that `kevolve run` prints and `kevolve show` reads, and the write-back that goes with it."""

from __future__ import annotations

import dataclasses
import logging
import statistics
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from agents import contamination
from agents.context import RunContext
from agents.memory import lineage as lineage_of
from agents.reflection import Published, lesson_of, published, strongest_baseline, winner_of
from agents.runs.records import NodeRecord
from kb.errors import KnowledgeError, UnknownNameError
from tools.targets.mtia_model import TIME_MODEL
from tools.targets.registry import is_simulated
from tools.types import Evaluation, Evidence

if TYPE_CHECKING:
    from kb.store import KnowledgeBase

logger = logging.getLogger(__name__)


def publish(context: RunContext, signature: str, reason: str) -> dict[str, Any]:  # Any: JSON
    """Choose the winner, write it and its lesson back, and return the result of the run."""
    store, run_id = context.store, context.run_id
    best = published(store, run_id, context.config.num_finalists)
    lineage = lineage_of(store, run_id, best.node.node_id) if best else []
    knowledge = knowledge_used(context.base, lineage)
    lesson_id = winner_id = None
    notes: list[str] = []
    copied: list[dict[str, Any]] = []  # Any: JSON
    if best is not None:
        source = best.node.candidate.source
        copied = [item.to_json() for item in contamination.report(context.base, context.problem, context.target, source, run_id)]
    if best is not None and context.base is not None and context.config.write_back:
        try:
            winner_id, lesson_id = _write_back(context, context.base, signature, best)
        except KnowledgeError as error:
            logger.warning("the winner could not be written back: %s", error)
            notes.append(f"the winner could not be written back: {error}")
    if best is None and (nodes := store.nodes(run_id)):
        last = nodes[-1].evaluation
        if not last.reason or last.reason not in reason:
            notes.append(f"the last candidate: {last.status.value}{': ' if last.reason else ''}{last.reason[:600]}")
    spent = store.spent(run_id)
    planned = store.events(run_id, "planned")
    return {
        "run_id": run_id,
        "status": "finished" if best else "no_candidate",
        "reason": reason,
        "problem": {"problem_id": context.problem.problem_id, "name": context.problem.name, "path": context.problem.path},
        "target": context.target,
        "simulated_by": TIME_MODEL if is_simulated(context.target) else None,
        "strategy": context.config.strategy,
        "coder": context.config.coder,
        "seed": context.config.seed,
        "best": best_to_json(context, best) if best else None,
        "num_evaluations": spent.evaluations,
        "num_remeasurements": spent.remeasurements,
        "num_nodes": store.num_nodes(run_id),
        "seconds": round(context.seconds(), 3),
        "device_seconds": round(spent.device_seconds, 3),
        "tokens": spent.tokens,
        "dollars": spent.dollars,
        "started_from": _started_from(planned[-1].data) if planned else {"same": [], "siblings": [], "similar": []},
        "knowledge_used": knowledge,
        "contamination": copied,
        "winner_id": winner_id,
        "lesson_id": lesson_id,
        "notes": notes,
    }


def publish_fault(context: RunContext, reason: str) -> dict[str, Any]:  # Any: JSON
    """Return the result of a run whose problem cannot be used; it has no node."""
    return {**publish(context, "", reason), "status": "faulty_problem"}


def evaluation_to_json(evaluation: Evaluation) -> dict[str, Any]:  # Any: JSON
    """Return the fields of an evaluation that scripts may rely on."""
    strongest = strongest_baseline(evaluation)
    return {
        "status": evaluation.status.value,
        "reason": evaluation.reason,
        "evidence": evaluation.evidence.value,
        "simulated_by": TIME_MODEL if evaluation.evidence is Evidence.SIMULATED else None,
        "target": evaluation.target,
        "problem_id": evaluation.problem_id,
        "candidate_id": evaluation.candidate_id,
        "latency_ms": evaluation.latency_ms,
        "baselines_ms": baselines_ms(evaluation),
        "speedup": {name: dataclasses.asdict(interval) for name, interval in evaluation.speedup.items()},
        "strongest_baseline": strongest[0] if strongest else None,
        "fitness": evaluation.fitness,
        "composition": evaluation.composition.value,
        "precision_class": evaluation.precision_class,
        "roofline_fraction": evaluation.roofline_fraction,
        "feedback": dataclasses.asdict(evaluation.feedback),
        "labels": list(evaluation.labels),
        "receipt": evaluation.receipt,
        "seconds": evaluation.seconds,
    }


def baselines_ms(evaluation: Evaluation) -> dict[str, float]:
    """Return the latency of each baseline in ms: the geometric mean over workloads of their medians."""
    names = {name for workload in evaluation.workloads for name in workload.baselines}
    return {
        name: statistics.geometric_mean(
            [workload.baselines[name].latency_ms for workload in evaluation.workloads if name in workload.baselines]
        )
        for name in sorted(names)
    }


def best_to_json(context: RunContext, best: Published) -> dict[str, Any]:  # Any: JSON
    """Return the best candidate as part of a run's result."""
    return {
        **evaluation_to_json(best.evaluation),
        "node_id": best.node.node_id,
        "source_path": context.store.artifacts.location(best.node.artifact),
        "language": best.node.candidate.language,
        "notes": best.node.notes,
        "is_remeasured": best.is_remeasured,
        "fitness_search": best.node.fitness,
        "provenance": dict(best.node.candidate.provenance),
    }


def knowledge_used(base: KnowledgeBase | None, lineage: list[NodeRecord]) -> list[dict[str, Any]]:  # Any: JSON
    """Return the chunks of the knowledge base that the winner and its ancestors were built from, each once."""
    if base is None:
        return []
    found = []
    for chunk_id in dict.fromkeys(chunk_id for node in lineage for chunk_id in node.chunk_ids):
        try:
            chunk = base.get_chunk(chunk_id)
            document = base.get_document(chunk.document_id)
        except UnknownNameError:
            logger.warning("chunk %s is no longer in the knowledge base", chunk_id)
            continue
        found.append(
            {"chunk_id": chunk_id, "document": document.title, "section_path": list(chunk.section_path), "source": document.source}
        )
    return found


def _started_from(planned: Mapping[str, Any]) -> dict[str, list[dict[str, str]]]:  # Any: JSON
    return {
        name: [
            {"winner_id": item["winner_id"], "run_id": item["winner"]["run_id"], "problem_id": item["winner"]["problem_id"]}
            for item in planned.get(name, ())
        ]
        for name in ("same", "siblings", "similar")
    }


def _write_back(context: RunContext, base: KnowledgeBase, signature: str, best: Published) -> tuple[str | None, str | None]:
    """Store the winner, and the lesson if the gain is certain. Once per run: a repeat finds the event and stores nothing again."""
    done = context.store.events(context.run_id, "written_back")
    if done:
        return done[-1].data["winner_id"], done[-1].data["lesson_id"]
    winner_id = base.add_winner(winner_of(context.run_id, context.problem, context.target, signature, best))
    versions = {name: str(version) for name, version in context.store.run(context.run_id).versions.items()}
    lesson = lesson_of(context.problem, context.target, signature, best, versions)
    lesson_id = base.add_lesson(lesson) if lesson is not None else None
    context.tell("written_back", winner_id=winner_id, lesson_id=lesson_id)
    return winner_id, lesson_id
