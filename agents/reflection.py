"""What a run concludes: whether to go on, which candidate is best on fresh measurements, and what goes back into the knowledge base.

A model never has a say here: every conclusion follows from evaluations.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from agents.context import RunContext
from agents.runs.records import NodeRecord
from agents.runs.store import RunStore
from kb.types import Lesson, Winner
from tools.types import UNMEASURABLE, Evaluation, Evidence, Interval, Problem, Status

logger = logging.getLogger(__name__)

MAX_HARNESS_ERRORS = 3
"""So many evaluator failures in a row end the search: something is wrong with the machine, not with the candidates."""
MAX_IDLE_ROUNDS = 25
"""So many rounds in a row without any new node end the search."""


@dataclass(frozen=True)
class Published:
    """The candidate that a run stands for."""

    node: NodeRecord
    evaluation: Evaluation
    """The evaluation at full effort where one was made, else the one of the search."""
    is_remeasured: bool


def reason_to_stop(context: RunContext, idle_rounds: int) -> str:
    """Return why the search should end now, as a sentence; empty if it goes on."""
    config = context.config
    store, run_id = context.store, context.run_id
    latest = store.node_summaries(run_id, MAX_HARNESS_ERRORS)
    refused = [item.node_id for item in latest if item.status is Status.NOT_MEASURED]
    for node in store.nodes_by_id(run_id, refused):
        if UNMEASURABLE in node.evaluation.labels:
            return f"this problem cannot be measured here: {node.evaluation.reason}"
    if reason := context.ended_budget(context.left()):
        return reason
    if idle_rounds >= MAX_IDLE_ROUNDS:
        return f"the last {idle_rounds} rounds brought nothing new"
    if len(latest) == MAX_HARNESS_ERRORS and all(item.status is Status.HARNESS_ERROR for item in latest):
        return f"the evaluator failed {MAX_HARNESS_ERRORS} times in a row; see the reasons with `kevolve show {run_id}`"
    best = store.best_fitness(run_id)
    if best is None:
        return ""
    fitness = best[1]
    if config.fitness_threshold is not None and fitness >= config.fitness_threshold:
        return f"fitness {fitness:.3f} reached the threshold {config.fitness_threshold:g}"
    if config.roofline_threshold is None and not config.stall_window:
        return ""
    node = store.best_nodes(run_id, 1)[0]
    fraction = node.evaluation.roofline_fraction
    if config.roofline_threshold is not None and fraction is not None and fraction >= config.roofline_threshold:
        return f"the best candidate reached {fraction:.0%} of its physical floor"
    if config.stall_window and store.sessions_since(run_id, node, config.stall_window) >= config.stall_window:
        return f"{config.stall_window} sessions in a row brought no better candidate"
    return ""


async def measure_finalists(context: RunContext) -> None:
    """Measure the best candidates of the search once more, at full effort in fresh processes.

    A maximum over noisy measurements is biased upwards; only the new number is published.
    """
    for node in context.store.best_nodes(context.run_id, context.config.num_finalists):
        if context.store.evaluation(context.run_id, node.source_hash, "final") is not None:
            continue
        evaluation = await context.evaluate(node.candidate, node.source_hash, "final")
        if evaluation is None:
            logger.warning("no time was left to measure the finalists again")
            return
        context.tell(
            "remeasured",
            node_id=node.node_id,
            candidate_id=node.candidate.candidate_id,
            status=evaluation.status.value,
            reason=evaluation.reason,
            fitness_search=node.fitness,
            fitness=evaluation.fitness,
            evidence=evaluation.evidence.value,
        )


def published(store: RunStore, run_id: str, num_finalists: int) -> Published | None:
    """Return the candidate to publish: the finalist that is best at full effort; one of the search only if no finalist was measured again."""
    finalists: list[Published] = []
    is_any_remeasured = False
    for node in store.best_nodes(run_id, max(1, num_finalists)):
        final = store.evaluation(run_id, node.source_hash, "final")
        if final is not None and final.status is not Status.NOT_MEASURED:
            is_any_remeasured = True
            if final.status is Status.PASSED:
                finalists.append(Published(node, final, is_remeasured=True))
        elif final is None:
            finalists.append(Published(node, node.evaluation, is_remeasured=False))
    if is_any_remeasured:
        finalists = [item for item in finalists if item.is_remeasured]
    return max(finalists, key=lambda item: item.evaluation.fitness, default=None)


def strongest_baseline(evaluation: Evaluation) -> tuple[str, Interval] | None:
    """Return the baseline that is hardest to beat, with the speedup over it; None if nothing was measured."""
    return min(evaluation.speedup.items(), key=lambda item: item[1].value, default=None)


def winner_of(run_id: str, problem: Problem, target: str, signature: str, best: Published) -> Winner:
    """Build the winner to store: the best candidate that passed, with its honest evaluation, whatever its speedup."""
    return Winner(
        problem_id=problem.problem_id,
        problem_hash=problem.source_hash,
        signature=signature,
        target=target,
        candidate_id=best.node.candidate.candidate_id,
        source=best.node.candidate.source,
        language=best.node.candidate.language,
        provenance={
            **best.node.candidate.provenance,
            "summary": best.node.notes,
            "chunk_ids": list(best.node.chunk_ids),
            "build_options": dict(best.node.candidate.build_options),
        },
        evaluation=best.evaluation.to_json(),
        run_id=run_id,
    )


def lesson_of(
    problem: Problem, target: str, signature: str, best: Published, versions: dict[str, str], lineage: Sequence[NodeRecord] = ()
) -> Lesson | None:
    """Build the lesson that the run supports, or None: it needs a re-measured gain whose whole interval lies above 1.0 over the stronger baseline.

    What a model simulated bears no lesson, however large the gain.
    """
    strongest = strongest_baseline(best.evaluation) if best.evaluation.evidence is Evidence.MEASURED else None
    if strongest is None or not best.is_remeasured or strongest[1].low <= 1.0:
        return None
    baseline, interval = strongest
    what = best.node.notes.rstrip(".") or f"candidate {best.node.candidate.candidate_id}"
    preconditions = {"target": target, "problem": problem.name, "precision_class": best.evaluation.precision_class}
    if signature:
        preconditions["anchor"] = signature
    evidence = [best.node.candidate.candidate_id, best.evaluation.receipt, *(node.candidate.candidate_id for node in lineage)]
    return Lesson(
        claim=(
            f"For {problem.name} on {target}, {what}: {interval.value:.2f} times as fast as {baseline} PyTorch "
            f"(95 % interval {interval.low:.2f} to {interval.high:.2f}), the stronger of the baselines."
        ),
        preconditions=preconditions,
        effect=interval.value,
        effect_low=interval.low,
        effect_high=interval.high,
        evidence=tuple(dict.fromkeys(item for item in evidence if item)),
        target=target,
        problem_id=problem.problem_id,
        versions=versions,
    )
