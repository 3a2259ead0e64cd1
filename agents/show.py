"""What people see of a run: the table of its outcome, the graph as a tree, a node with its lineage. Builds rich renderables; prints nothing."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from agents.memory import lineage_of
from agents.outcome import evaluation_to_json
from agents.runs.records import NodeRecord, RunRecord
from tools.targets.mtia_model import TIME_MODEL
from tools.targets.registry import is_simulated
from tools.types import Evidence

if TYPE_CHECKING:
    from rich.table import Table
    from rich.tree import Tree


def outcome_table(result: Mapping[str, Any]) -> Table:  # Any: JSON of `agents.outcome.publish`
    """Return the table that ends a run: problem, baselines, best candidate, speedups with intervals, knowledge cited, lesson."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title=f"run {result['run_id']}", show_header=False, title_justify="left")
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")

    def add(name: str, value: str) -> None:
        table.add_row(name, Text(value))

    best = result["best"]
    add("problem", f"{result['problem']['problem_id']} on {result['target']}")
    is_modelled = bool(result.get("simulated_by"))
    if is_modelled:
        add("times", f"simulated by {result['simulated_by']}; nothing was measured")
    started = [
        f"run {item['run_id']} ({item['problem_id']})" for item in (*result["started_from"]["same"], *result["started_from"]["siblings"])
    ]
    if started:
        add("started from", ", ".join(started))
    if best is None:
        add("best candidate", f"none passed; {result['reason']}")
    else:
        add("baselines", ", ".join(f"{name} {value:.4g} ms" for name, value in best["baselines_ms"].items()))
        add(
            "best candidate",
            f"{best['candidate_id']} ({best['language']}, {best['composition']}), {best['latency_ms']:.4g} ms{' (simulated)' if is_modelled else ''}: {best['notes']}",
        )
        for name, interval in best["speedup"].items():
            kind = "the model's interval" if is_modelled else "95 % interval"
            add(f"speedup over {name}", f"{interval['value']:.2f}× ({kind} {interval['low']:.2f} to {interval['high']:.2f})")
        again = "again, at full effort" if best["is_remeasured"] else "once, during the search"
        add("values checked" if is_modelled else "measured", f"{again}; evidence: {best['evidence']}")
        if best["roofline_fraction"] is not None:
            add("of the physical floor", f"{best['roofline_fraction']:.0%}")
    cited: dict[str, list[str]] = {}
    for item in result["knowledge_used"]:
        cited.setdefault(item["document"], []).append(" › ".join(item["section_path"][1:]))
    add(
        "knowledge cited",
        "\n".join(f"{name} § {', '.join(filter(None, dict.fromkeys(parts)))}".rstrip(" §") for name, parts in cited.items()) or "none",
    )
    add(
        "lesson written",
        result["lesson_id"]
        or ("none: a lesson needs measurements" if is_modelled else "none: no certain gain over the stronger baseline was measured"),
    )
    for note in result["notes"]:
        add("note", note)
    spent = f"{result['num_evaluations']} evaluations ({result['num_remeasurements']} of finalists), {result['seconds']:.1f} s"
    add("spent", spent + (f", {result['tokens']} tokens" if result["tokens"] else ""))
    add("ended because", result["reason"])
    return table


def outcome_paths(result: Mapping[str, Any]) -> list[str]:  # Any: JSON of `agents.outcome.publish`
    """Return lines for below the table, unbroken so that they can be copied: where the winner and its receipt are, and how to go on."""
    best = result["best"]
    if best is None:
        return []
    paths = [f"{name}: {best[key]}" for name, key in (("source", "source_path"), ("receipt", "receipt")) if best[key]]
    run_id = result["run_id"]
    return [*paths, f"`kevolve export {run_id} DIR` writes the winner as a package, `kevolve show {run_id} --lineage` shows the way to it"]


def run_tree(record: RunRecord, nodes: Sequence[NodeRecord]) -> Tree:
    """Return the search graph as a tree; a node with two parents hangs on the first and names the second."""
    from rich.text import Text
    from rich.tree import Tree

    best = max(nodes, key=lambda node: node.fitness, default=None)
    lineage = lineage_of(nodes, best.node_id) if best and best.fitness > 0 else set()
    root = Tree(
        Text(
            f"run {record.run_id}: {record.problem.problem_id} on {record.target}, {record.strategy}, seed {record.seed}{simulated_note(record)}"
        )
    )
    branches: dict[str, Tree] = {}
    for node in nodes:
        style = "bold green" if best is not None and node.node_id == best.node_id else "green" if node.node_id in lineage else ""
        branch = branches[node.parents[0]] if node.parents else root
        branches[node.node_id] = branch.add(Text(_line(node), style=style))
    return root


def simulated_note(record: RunRecord) -> str:
    """Return what follows the name of a run whose times a model made; empty for one that was measured."""
    return f"; times simulated by {TIME_MODEL}" if is_simulated(record.target) else ""


def node_to_json(node: NodeRecord) -> dict[str, Any]:  # Any: JSON
    """Return a node without its raw samples."""
    return {
        "node_id": node.node_id,
        "step": node.step,
        "round": node.round,
        "session_id": node.session_id,
        "attempt": node.attempt,
        "parents": list(node.parents),
        "notes": node.notes,
        "chunk_ids": list(node.chunk_ids),
        "language": node.candidate.language,
        "provenance": dict(node.candidate.provenance),
        "diagnosis": dict(node.diagnosis),
        "algorithm": dict(node.algorithm),
        "features": dict(node.features),
        "evaluation": evaluation_to_json(node.evaluation),
    }


def run_to_json(record: RunRecord) -> dict[str, Any]:  # Any: JSON
    """Return what is known of a run, its result included once there is one."""
    return {
        "run_id": record.run_id,
        "status": "running" if record.is_driven else record.status.value,
        "created": record.created,
        "problem": {"problem_id": record.problem.problem_id, "name": record.problem.name, "source_hash": record.problem.source_hash},
        "target": record.target,
        "simulated_by": TIME_MODEL if is_simulated(record.target) else None,
        "strategy": record.strategy,
        "coder": record.coder,
        "seed": record.seed,
        "seconds": record.seconds,
        "config": dict(record.config),
        "versions": dict(record.versions),
        "result": dict(record.result) if record.result is not None else None,
    }


@dataclasses.dataclass(frozen=True)
class LineageStep:
    """One node on the way to another, with what changed since its first parent."""

    node: NodeRecord
    diff: str
    """Unified diff of the source against the first parent's; empty for a draft."""
    gain: float | None
    """Fitness over the parents' best fitness; None where either is 0."""


def lineage_steps(nodes: Sequence[NodeRecord], node_id: str) -> list[LineageStep]:
    """Return the way to a node, from the first draft on."""
    by_id = {node.node_id: node for node in nodes}
    steps = []
    chosen = lineage_of(nodes, node_id)
    for node in (node for node in nodes if node.node_id in chosen):
        parents = [by_id[parent] for parent in node.parents if parent in by_id]
        before = max((parent.fitness for parent in parents), default=0.0)
        diff = ""
        if parents:
            first = parents[0]
            lines = difflib.unified_diff(
                first.candidate.source.splitlines(), node.candidate.source.splitlines(), first.node_id, node.node_id, lineterm="", n=2
            )
            diff = "\n".join(lines)
        steps.append(LineageStep(node, diff, node.fitness / before if before and node.fitness else None))
    return steps


def _line(node: NodeRecord) -> str:
    told = " simulated" if node.evaluation.evidence is Evidence.SIMULATED else ""
    outcome = f"{node.fitness:.3f}×{told}" if node.fitness else f"{node.evaluation.status.value}: {node.evaluation.reason}"[:90]
    others = f" (and {', '.join(node.parents[1:])})" if len(node.parents) > 1 else ""
    return f"{node.node_id} {outcome}  {node.notes[:90]}{others}"
