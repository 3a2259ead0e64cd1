"""Run a suite of problems through the search, one after another, and append a raw record for each the moment it is known.

A record that exists is not made again (`resume`), shards of a suite run on different days, and a problem that cannot be used is a record too, never left out.
"""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agents.config import RunConfig
from agents.driver import Machinery, create_run, drive, versions
from agents.errors import AgentsError
from agents.interrupting import run_interruptible
from agents.reflection import published
from agents.runs.store import RunStore
from evaluation.errors import EvaluationError
from evaluation.records import Record, append, read
from evaluation.simplified import ARMS, factor, measure_simplified
from kb.errors import KnowledgeError
from tools.errors import ToolsError
from tools.receipts import read_receipt, source_commit
from tools.types import Evaluation, Evidence, Problem, Status

if TYPE_CHECKING:
    from agents.runs.records import NodeRecord
    from kb.store import KnowledgeBase

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class BenchOptions:
    """What one call of the suite runner does."""

    suite: str
    target: str
    """Exact target."""
    config: RunConfig
    """Budget, strategy and coder of every run."""
    results: Path
    """The `.jsonl` file that records are appended to."""
    label: str = ""
    """Arm of an experiment, for example `cold` or `warm`."""
    resume: bool = False
    """Skip problems that the results file already has under this label."""
    command: str = ""
    """What a user types to repeat it; default: this process's arguments."""


def shard_of(problems: Sequence[Problem], shard: str) -> list[Problem]:
    """Return the part `i/n` of a suite: every n-th problem, counted from 1.

    Raises:
        EvaluationError: `shard` is not of the form i/n with 1 <= i <= n.
    """
    if not shard:
        return list(problems)
    part, _, count = shard.partition("/")
    if not (part.isdigit() and count.isdigit() and 1 <= int(part) <= int(count)):
        raise EvaluationError(f"not a shard: {shard!r}; give i/n with 1 <= i <= n, for example 2/5")
    return list(problems[int(part) - 1 :: int(count)])


def run_suite(
    problems: Sequence[Problem], options: BenchOptions, store: RunStore, machinery: Machinery, tell: Callable[[str], None] = lambda _: None
) -> list[Record]:
    """Search for each problem in turn and append its record.

    Args:
        problems: The suite, or a shard of it.
        options: What to do.
        store: Where runs are kept.
        machinery: Coder, evaluator, lint and knowledge base, shared by all runs.
        tell: Receives a line of progress per problem.

    Raises:
        EvaluationError: There are no problems: an empty suite is not a success.
    """
    todo = pending(problems, options, tell)
    made = []
    for problem in todo:
        record = run_one(problem, options, store, machinery)
        append(options.results, record)
        made.append(record)
        announce(record, len(made), len(todo), tell)
    return made


def pending(problems: Sequence[Problem], options: BenchOptions, tell: Callable[[str], None]) -> list[Problem]:
    """Return the problems that have no record yet under this label, all of them unless the call resumes.

    Raises:
        EvaluationError: There are no problems: an empty suite is not a success.
    """
    if not problems:
        raise EvaluationError("no problems: nothing to run is not a success; check the suite's name, levels and shard")
    done = {(item.problem_id, item.label) for item in read([options.results])} if options.resume and options.results.exists() else set()
    todo = [problem for problem in problems if (problem.problem_id, options.label) not in done]
    if len(todo) < len(problems):
        tell(f"{len(problems) - len(todo)} of {len(problems)} problems were recorded before")
    return todo


def announce(record: Record, number: int, count: int, tell: Callable[[str], None]) -> None:
    """Tell what became of a problem, in a line."""
    evaluation = record.evaluation
    over = {**evaluation.speedup, **{f"simplified, {arm}": found for arm in ARMS if (found := factor(record, arm)) is not None}}
    speedups = ", ".join(f"{item.value:.2f}x {name}" for name, item in sorted(over.items()))
    tell(
        f"[{number}/{count}] {record.problem_id}: {speedups or evaluation.reason or evaluation.status} "
        f"({record.num_evaluations} evaluations, {record.seconds:.0f} s)"
    )


def run_one(problem: Problem, options: BenchOptions, store: RunStore, machinery: Machinery) -> Record:
    """Search for one problem; what keeps it from being measured is a record too."""
    knowledge = knowledge_of(machinery.base, options.target)
    run_id = create_run(store, problem, options.target, options.config)
    try:
        result = run_interruptible(drive(store, run_id, machinery))
    except (ToolsError, AgentsError, KnowledgeError) as error:
        logger.warning("%s: %s", problem.problem_id, error)
        nothing = Evaluation("", problem.problem_id, options.target, Evidence.MEASURED, Status.NOT_MEASURED, reason=str(error)[:1500])
        return _record(problem, options, run_id, nothing, {}, [], {"knowledge": knowledge})
    best = published(store, run_id, options.config.num_finalists)
    nodes = store.nodes(run_id)
    if best is None:
        last = nodes[-1].evaluation if nodes else None
        reason = f"no candidate passed; the last one: {last.status}: {last.reason}" if last else "no candidate was written"
        status = last.status if last and last.status is not Status.PASSED else Status.NOT_MEASURED
        nothing = Evaluation("", problem.problem_id, options.target, Evidence.MEASURED, status, reason=reason[:1500])
        return _record(problem, options, run_id, nothing, result, nodes, {"knowledge": knowledge})
    candidate, extra = best.node.candidate, {"knowledge": knowledge, "kernels": list(best.node.candidate.provenance.get("kernels", ()))}
    baseline = measure_simplified(candidate, best.evaluation, problem, options.target, machinery, options.config.seed)
    if baseline is not None:
        extra["simplified"] = baseline
    return _record(problem, options, run_id, best.evaluation, result, nodes, extra, candidate.source)


def knowledge_of(base: KnowledgeBase | None, target: str) -> dict[str, Any]:  # Any: JSON
    """Return what a search on a target could draw on: counts of documents, of kernel documents that the target sees and of winners, and a hash of those kernels."""
    from kb.targets import visible
    from kb.types import Kind

    stored = [] if base is None else base.documents()
    allowed = set(visible(target))
    kernels = sorted(item.content_hash for item in stored if item.kind is Kind.KERNEL and allowed & set(item.targets))
    return {
        "documents": len(stored),
        "kernel_documents": len(kernels),
        "kernel_hash": hashlib.sha256(" ".join(kernels).encode()).hexdigest()[:16],
        "winners": sum(item.kind is Kind.WINNER for item in stored),
    }


def _record(
    problem: Problem,
    options: BenchOptions,
    run_id: str,
    evaluation: Evaluation,
    result: Mapping[str, Any],  # Any: JSON
    nodes: Sequence[NodeRecord],
    extra: Mapping[str, Any],  # Any: JSON
    source: str = "",
) -> Record:
    receipt = read_receipt(Path(evaluation.receipt)) if evaluation.receipt else {}
    environment = {**versions(), "commit": source_commit(), **_device(receipt)}
    history = [
        {
            "candidate_id": node.candidate.candidate_id,
            "notes": node.notes,
            "status": node.evaluation.status.value,
            "reason": node.evaluation.reason[:300],
            "fitness": node.fitness,
            "latency_ms": node.evaluation.latency_ms,
        }
        for node in nodes
    ]
    return Record(
        suite=options.suite,
        problem_id=problem.problem_id,
        target=options.target,
        best=dataclasses.replace(evaluation, receipt=Path(evaluation.receipt).name).to_json(),
        num_evaluations=int(result.get("num_evaluations", 0)),
        seconds=float(result.get("seconds", 0.0)),
        command=options.command or " ".join(["kevolve", *sys.argv[1:]]),
        environment=environment,
        run_id=run_id,
        seed=options.config.seed,
        label=options.label,
        source=source,
        knowledge_used=tuple(result.get("knowledge_used", ())),
        extra={
            "history": history,
            "started_from": result.get("started_from", {}),
            "lesson_id": result.get("lesson_id"),
            "problem_hash": problem.source_hash,
            "receipt": _beside(receipt, source),
            **extra,
        },
    )


def _beside(receipt: Mapping[str, Any], source: str) -> dict[str, Any]:  # Any: JSON
    """Return a receipt without what its record holds already: the evaluation, and the source where it is the record's."""
    kept = {name: value for name, value in receipt.items() if name != "evaluation"}
    if kept.get("candidate", {}).get("source") == source:
        kept["candidate"] = {name: value for name, value in kept["candidate"].items() if name != "source"}
    return kept


def _device(receipt: Mapping[str, Any]) -> dict[str, Any]:  # Any: JSON
    device = receipt.get("device")
    return {key: value for key, value in device.items() if isinstance(value, str | int | float)} if isinstance(device, dict) else {}
