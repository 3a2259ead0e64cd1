"""What a problem amounts to, in numbers that a planner, a diagnosis and a coder can hold a time against: bytes that must move, operators, operations. Nothing is run."""

from __future__ import annotations

import logging
from collections import Counter

from tools.types import Problem

logger = logging.getLogger(__name__)

MAX_WORKLOADS = 3
MAX_OPERATORS = 8
"""Operators of a workload that are named, the most expensive first."""


def work_of(problem: Problem) -> str:
    """Return what the reference moves and computes, one fact a line; empty where its operators cannot be captured.

    The capture runs in a process of its own under tensors without storage, and is remembered for the process.
    """
    from agents.coders.library.capture import capture
    from agents.coders.library.errors import CaptureError

    try:
        captured = capture(problem.source)
    except CaptureError as error:
        logger.info("what %s amounts to is not known: %s", problem.name, error)
        return ""
    several = len(captured.workloads) > 1
    lines: list[str] = []
    for name, graph in captured.workloads[:MAX_WORKLOADS]:
        lines += [f"workload {name}:"] if several else []
        lines += _workload(graph)
    return "\n".join(lines)


def _workload(graph: object) -> list[str]:
    from agents.coders.library.graph import Graph, refs_in
    from agents.coders.library.roofline import passes_of

    assert isinstance(graph, Graph)
    used = {ref for node in graph.nodes for ref in node.refs()}
    given = [item.spec for item in graph.placeholders if item.spec is not None and item.name in used]
    returned = [spec for spec in (graph.spec(ref) for ref in dict.fromkeys(refs_in(graph.outputs))) if spec is not None]
    passes = [item for item in passes_of(graph, {}, "eager") if item.read_bytes or item.flops]
    total = sum(item.flops for item in passes)
    moved = sum(item.read_bytes + item.written_bytes for item in passes)
    least_in, least_out = (sum(spec.nbytes for spec in specs) for specs in (given, returned))
    lines = [
        f"inputs and parameters {_amount(least_in, 'B')}, outputs {_amount(least_out, 'B')}: what must move at least once",
        f"eager PyTorch: {len(passes)} operators that move {_amount(moved, 'B')} and do {_amount(total, 'FLOP')}, the most expensive first:",
    ]
    named: Counter[str] = Counter()
    for item in sorted(passes, key=lambda item: -(item.flops + item.read_bytes + item.written_bytes)):
        node = graph.node(item.nodes[-1])
        shape = f" -> {node.spec.shape}" if node is not None and node.spec is not None else ""
        name = item.anchor.removeprefix("aten.").removesuffix(".default")
        amounts = _amount(item.flops, "FLOP"), _amount(item.read_bytes, "B"), _amount(item.written_bytes, "B")
        named[f"{name}{shape}: {{each}}{amounts[0]}, reads {amounts[1]}, writes {amounts[2]}"] += 1
    for text, count in list(named.items())[:MAX_OPERATORS]:
        lines.append(f"- {f'{count} x ' if count > 1 else ''}{text.replace('{each}', 'each ' if count > 1 else '')}")
    return lines


def _amount(value: float, unit: str) -> str:
    for prefix in ("", "k", "M", "G"):
        if value < 1000:
            return f"{value:.3g} {prefix}{unit}"
        value /= 1000
    return f"{value:.3g} T{unit}"
