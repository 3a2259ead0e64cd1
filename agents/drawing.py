"""The search graph as text for Graphviz and as a picture (SVG) that needs no other program, and the curve of the best so far."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from agents.memory import lineage_of
from agents.runs.records import NodeRecord
from tools.types import Status

_WIDTH, _HEIGHT, _MARGIN = 1000, 420, 48
_BLOCKS = "▁▂▃▄▅▆▇█"


def best_so_far(nodes: Sequence[NodeRecord]) -> list[float]:
    """Return the best fitness after each node, in logical order."""
    best, curve = 0.0, []
    for node in nodes:
        best = max(best, node.fitness)
        curve.append(best)
    return curve


def sparkline(values: Sequence[float], width: int = 60) -> str:
    """Return a curve as one line of blocks, from 0 to its highest value."""
    top = max(values, default=0.0)
    if top <= 0:
        return ""
    chosen = values if len(values) <= width else [values[round(index * (len(values) - 1) / (width - 1))] for index in range(width)]
    return "".join(_BLOCKS[min(len(_BLOCKS) - 1, int(value / top * len(_BLOCKS)))] for value in chosen)


def to_dot(nodes: Sequence[NodeRecord], title: str) -> str:
    """Return the graph in the language of Graphviz; the winner's lineage is drawn bold."""
    marked = _marked(nodes)
    lines = [f"digraph {_quoted(title)} {{", "  node [shape=box, style=filled, fontsize=10];"]
    for node in nodes:
        label = f"{node.node_id}\n{node.fitness:.3f}x" if node.fitness else f"{node.node_id}\n{node.evaluation.status.value}"
        width = ", penwidth=3" if node.node_id in marked else ""
        lines.append(f"  {_quoted(node.node_id)} [label={_quoted(label)}, fillcolor={_quoted(_colour(node, marked))}{width}];")
        lines += [f"  {_quoted(parent)} -> {_quoted(node.node_id)};" for parent in node.parents]
    return "\n".join([*lines, "}"]) + "\n"


def to_svg(nodes: Sequence[NodeRecord], title: str) -> str:
    """Return a picture: logical steps to the right, fitness upwards, a line from every parent to its child, and the best so far as steps."""
    top = max((node.fitness for node in nodes), default=0.0) or 1.0
    count = max(len(nodes), 2)
    marked = _marked(nodes)

    def x(step: int) -> float:
        return _MARGIN + step * (_WIDTH - 2 * _MARGIN) / (count - 1)

    def y(fitness: float) -> float:
        return _HEIGHT - _MARGIN - fitness / top * (_HEIGHT - 2 * _MARGIN)

    place = {node.node_id: (x(node.step), y(node.fitness)) for node in nodes}
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" font-size="11">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/><text x="{_MARGIN}" y="20">{escape(title)}</text>',
        f'<text x="4" y="{y(top) + 4:.1f}">{top:.2f}×</text><text x="4" y="{y(0) + 4:.1f}">0</text>',
        f'<text x="{_WIDTH - _MARGIN - 60}" y="{_HEIGHT - 14}">{len(nodes)} nodes</text>',
    ]
    for node in nodes:
        for parent in node.parents:
            if parent in place:
                (x1, y1), (x2, y2) = place[parent], place[node.node_id]
                style = 'stroke="#c2185b" stroke-width="2"' if {parent, node.node_id} <= marked else 'stroke="#bbbbbb"'
                parts.append(f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" {style}/>')
    curve = best_so_far(nodes)
    if curve:
        path = [f"M{x(0):.1f},{y(curve[0]):.1f}"]
        path += [f"H{x(step):.1f}V{y(value):.1f}" for step, value in enumerate(curve[1:], start=1)]
        parts.append(f'<path d="{"".join(path)}" fill="none" stroke="#1565c0" stroke-dasharray="4 3"/>')
    for node in nodes:
        px, py = place[node.node_id]
        says = f"{node.node_id} (step {node.step}): {node.evaluation.status.value}, fitness {node.fitness:.3f}. {node.notes}"
        parts.append(
            f'<circle cx="{px:.1f}" cy="{py:.1f}" r="4" fill="{_colour(node, marked)}" stroke="#444444"><title>{escape(says)}</title></circle>'
        )
    return "\n".join([*parts, "</svg>"]) + "\n"


def _marked(nodes: Sequence[NodeRecord]) -> set[str]:
    best = max(nodes, key=lambda node: node.fitness, default=None)
    return lineage_of(nodes, best.node_id) if best is not None and best.fitness > 0 else set()


def _colour(node: NodeRecord, marked: set[str]) -> str:
    if node.node_id in marked:
        return "#f8bbd0"
    return "#c8e6c9" if node.evaluation.status is Status.PASSED else "#eeeeee"


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
