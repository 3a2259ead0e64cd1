"""A roofline estimate of a captured graph: bytes and operations per pass over memory, and the time that a chip's peaks allow.

A *pass* is what one kernel does: it reads each tensor that comes from outside once, writes each value that is used outside, and computes in between. Three ways of
dividing a graph into passes give three estimates: `eager` (each operator is a pass), `compiled` (pointwise operators join their neighbours, contractions stay alone)
and `fused` (pointwise operators join contractions too).
In the first two, convolutions are what a vendor's library makes of them (into channels-last order, a product with padded channels on matrix units, and back), and
overlapping windows are read from the cache once each.
A pass takes the longest of its memory, its compute and its launch time; a graph takes the sum.

What it does not know: how well a kernel uses the machine (every pass is taken to run at the peak), and data-dependent work.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from agents.coders.library.expressions import COPIES, EXPANSIONS, FILLS, OPERATORS
from agents.coders.library.graph import Graph, Node, TensorSpec, refs_in
from agents.coders.library.rewrites import VIEWS

Style = Literal["eager", "compiled", "fused"]
Bound = Literal["memory", "compute", "launch"]
STYLES: tuple[Style, ...] = ("eager", "compiled", "fused")

LAUNCH_S = 5e-6
"""Least time of a pass: what the host needs for a launch (2 to 5 us, docs/nvidia/launch_overhead.md; unverified)."""
_STATISTICS = ("softmax", "_softmax", "log_softmax", "_log_softmax", "layer_norm", "group_norm", "instance_norm", "batch_norm", "rms_norm")
"""Operators that need a figure of a whole row (group, channel) before they can write its elements."""
RECURRENT = ("aten.gru.input", "aten.lstm.input", "aten.rnn_tanh.input", "aten.rnn_relu.input")
"""Operators that are a chain of steps, each a launch or more."""
_CONTRACTIONS = ("linear", "matmul", "mm", "addmm", "bmm", "baddbmm", "einsum", "scaled_dot_product_attention")


@dataclass(frozen=True)
class Pass:
    """What one kernel moves and computes."""

    nodes: tuple[str, ...]
    """In execution order, views left out."""
    anchor: str
    """The operator that gives the pass its shape: a contraction, a reduction, or the first pointwise operator."""
    read_bytes: int
    """From device memory."""
    cached_bytes: int
    """Read again from the second-level cache."""
    written_bytes: int
    flops: float
    peak: str
    """The limit that says how fast the operations are, for example `flops_per_s_tf32`."""


@dataclass(frozen=True)
class Roofline:
    """The estimate of one graph."""

    style: Style
    passes: tuple[Pass, ...]
    seconds: float
    share: Mapping[Bound, float]
    """Which part of the time goes to passes that each resource limits; the parts add up to 1."""

    @property
    def bound(self) -> Bound:
        """What limits most of the time."""
        return max(self.share, key=lambda name: self.share[name])

    @property
    def bytes_moved(self) -> int:
        """Bytes to and from device memory."""
        return sum(item.read_bytes + item.written_bytes for item in self.passes)

    @property
    def flops(self) -> float:
        """Floating-point operations, padding of channels included where the style has it."""
        return sum(item.flops for item in self.passes)


@dataclass
class _Group:
    nodes: list[Node]
    kind: str
    needs: set[int]
    """Numbers of the groups whose values it uses."""
    number: int


def estimate(graph: Graph, limits: Mapping[str, float], style: Style) -> Roofline:
    """Return the estimate of a graph on a chip.

    Args:
        graph: As captured, after `rewrites.rewrite`.
        limits: The chip's numbers: `dram_gb_per_s`, `l2_bytes`, `l2_gb_per_s`, `multiprocessors`, `flops_per_s_*`.
        style: How the graph is divided into passes.
    """
    passes = tuple(passes_of(graph, limits, style))
    totals: dict[Bound, float] = {"memory": 0.0, "compute": 0.0, "launch": 0.0}
    for item in passes:
        times = _times(item, limits)
        bound = max(times, key=lambda name: times[name])
        totals[bound] += times[bound]
    seconds = sum(totals.values())
    return Roofline(style, passes, seconds, {name: value / seconds if seconds else 0.0 for name, value in totals.items()})


def seconds_of(item: Pass, limits: Mapping[str, float]) -> float:
    """Return the estimated time of one pass, in s."""
    return max(_times(item, limits).values())


def _times(item: Pass, limits: Mapping[str, float]) -> dict[Bound, float]:
    return {"memory": _memory_s(item, limits), "compute": item.flops / limits[item.peak], "launch": LAUNCH_S}


def _memory_s(item: Pass, limits: Mapping[str, float]) -> float:
    """Return the longer of the times that device memory and the second-level cache take: they work side by side."""
    cache = (item.read_bytes + item.cached_bytes) / limits["l2_gb_per_s"] if "l2_gb_per_s" in limits else 0.0
    return max((item.read_bytes + item.written_bytes) / limits["dram_gb_per_s"], cache) * 1e-9


def passes_of(graph: Graph, limits: Mapping[str, float], style: Style) -> Iterator[Pass]:
    """Yield the passes of a graph in order."""
    bases = _bases(graph)
    consumers: dict[str, set[str]] = {}
    for node in graph.nodes:
        if not _is_view(node):
            for ref in node.refs():
                consumers.setdefault(bases[ref], set()).add(node.name)
    for ref in refs_in(graph.outputs):
        consumers.setdefault(bases[ref], set()).add("<output>")
    fresh: dict[str, int] = {}
    for group in _groups(graph, bases, style):
        item = _measure(group, graph, bases, consumers, fresh, limits)
        if style != "fused":
            item = replace(item, cached_bytes=item.cached_bytes + sum(_window_bytes(node, graph) for node in group.nodes))
        convolution = next((node for node in group.nodes if _is_windowed_product(node, graph)), None) if style != "fused" else None
        if convolution is None:
            yield item
        else:
            yield from _as_library(item, convolution, graph)


def _groups(graph: Graph, bases: Mapping[str, str], style: Style) -> list[_Group]:
    groups: list[_Group] = []
    home: dict[str, _Group] = {}
    for node in graph.nodes:
        if _is_view(node) or node.op in FILLS:
            continue
        group = _Group([node], _kind(node), {home[bases[ref]].number for ref in node.refs() if bases[ref] in home}, len(groups))
        groups.append(group)
        home[node.name] = group
        if style == "eager":
            continue
        for number in sorted(group.needs, reverse=True):
            if _joins(group.kind, groups[number].kind, style) and not _between(groups, number, group):
                group = _merge(groups, number, group, home)
    return sorted((group for group in groups if group.nodes), key=lambda group: group.number)


def _between(groups: Sequence[_Group], number: int, group: _Group) -> bool:
    """Tell whether a third group needs group `number` and is needed, directly or not, by `group`: then the two cannot be one pass."""
    frontier, seen = group.needs - {number}, set()
    while frontier:
        item = frontier.pop()
        if item == number:
            return True
        if item not in seen:
            seen.add(item)
            frontier |= groups[item].needs
    return False


def _merge(groups: list[_Group], number: int, group: _Group, home: dict[str, _Group]) -> _Group:
    """Make group `number` part of `group`, which stands later; return it."""
    other = groups[number]
    kind = group.kind if other.kind == "pointwise" else other.kind
    group.nodes[:0] = other.nodes
    group.needs = (group.needs | other.needs) - {number, group.number}
    group.kind = kind
    for node in other.nodes:
        home[node.name] = group
    other.nodes = []
    for item in groups:
        if number in item.needs:
            item.needs = (item.needs - {number}) | {group.number}
    group.needs -= {group.number}
    return group


def _joins(kind: str, into: str, style: Style) -> bool:
    """Tell whether an operator becomes part of the pass that makes its last operand."""
    if kind == "pointwise":
        return into != "contraction" or style == "fused"
    if kind in ("reduction", "statistics", "window"):
        return into == "pointwise"
    return False


def _measure(
    group: _Group,
    graph: Graph,
    bases: Mapping[str, str],
    consumers: Mapping[str, set[str]],
    fresh: dict[str, int],
    limits: Mapping[str, float],
) -> Pass:
    """Count one pass. `fresh` holds what earlier passes wrote and what may still be in the second-level cache, oldest first; it is brought up to date."""
    inside = {node.name for node in group.nodes}
    anchor = next((node for node in group.nodes if _kind(node) != "pointwise"), group.nodes[0])
    operands: dict[str, int] = {}
    for node in group.nodes:
        for ref in node.refs():
            base = bases[ref]
            size = _bytes(graph, ref)
            if base not in inside and size:
                operands[base] = max(operands.get(base, 0), min(size, _bytes(graph, base) or size))
    read = cached = 0
    for base, size in operands.items():
        if base in fresh:
            cached += size
        else:
            read += size
    again = _second_reading(group, graph, operands, limits)
    if again[1]:
        cached += again[0]
    else:
        read += again[0]
    written = sum(_output_bytes(node) for node in group.nodes if consumers.get(node.name, set()) - inside)
    room = limits.get("l2_bytes", 0.0) / 2
    for node in group.nodes:
        if consumers.get(node.name, set()) - inside:
            fresh[node.name] = _output_bytes(node)
    while fresh and sum(fresh.values()) > room:
        fresh.pop(next(iter(fresh)))
    flops = sum(_flops(node, graph) for node in group.nodes)
    return Pass(tuple(node.name for node in group.nodes), anchor.op, read, cached, written, flops, _peak(anchor, graph, limits))


_CHANNELS = 32
"""Channels of one step of a matrix unit's tile (128 bytes of float32): fewer are padded to it."""


def _as_library(item: Pass, node: Node, graph: Graph) -> Iterator[Pass]:
    """Yield what the vendor's library makes of a convolution of contiguous tensors: into channels-last order, the product on padded channels, and back."""
    weight = graph.spec(node.refs()[1])
    assert weight is not None  # `_is_windowed_product` saw it
    before, after = _bytes(graph, node.refs()[0]), _output_bytes(node)
    converts = _on_matrix_units(node, graph)
    if converts:
        yield Pass(item.nodes, "channels_last", before, 0, before, 0.0, "flops_per_s_float32")
    groups = node.argument("groups", 1)
    inner = weight.shape[1]
    outer = weight.shape[0] // (groups if isinstance(groups, int) else 1)
    padding = (_padded(inner) / inner) * (_padded(outer) / outer)
    yield replace(item, flops=item.flops * padding)
    if converts:
        yield Pass(item.nodes, "contiguous", after, 0, after, 0.0, "flops_per_s_float32")


def _padded(channels: int) -> int:
    return -(-channels // _CHANNELS) * _CHANNELS


def _is_windowed_product(node: Node, graph: Graph) -> bool:
    """Tell convolutions, other than depthwise ones, whose window is larger than a point; a point-wise one is a matrix product as it lies."""
    if "conv" not in node.op or is_depthwise(node, graph) or node.spec is None:
        return False
    weight = graph.spec(node.refs()[1])
    return weight is not None and math.prod(weight.shape[2:]) > 1


def _window_bytes(node: Node, graph: Graph) -> int:
    """Return the bytes that overlapping windows read beyond the first time: every element of the result reads its whole window."""
    if node.spec is None or not node.refs():
        return 0
    if is_depthwise(node, graph):
        weight = graph.spec(node.refs()[1])
        window = math.prod(weight.shape[2:]) if weight is not None else 1
    elif "pool" in _short(node):
        window = math.prod(_window(node))
    else:
        return 0
    return max(0, node.spec.nbytes * window - _bytes(graph, node.refs()[0]))


def _second_reading(group: _Group, graph: Graph, operands: Mapping[str, int], limits: Mapping[str, float]) -> tuple[int, bool]:
    """Return the bytes that a pass with statistics reads twice, and whether the second time from the cache.

    The rows that all multiprocessors work on at a time are read again from the second-level cache where they fit there, and need not be read again
    where one fits into a multiprocessor's shared memory.
    """
    for node in group.nodes:
        spec = graph.spec(node.refs()[0]) if node.refs() else None
        if spec is None or not (_kind(node) == "statistics" or _is_read_back(node, group, graph)):
            continue
        row = _row_bytes(node, spec)
        whole = max(operands.values(), default=0)
        if row <= limits.get("shared_memory_per_multiprocessor_bytes", 0.0):
            return 0, True
        in_flight = min(whole, row * limits.get("multiprocessors", 1.0))
        return whole, in_flight <= limits.get("l2_bytes", 0.0) / 2
    return 0, True


def _is_read_back(node: Node, group: _Group, graph: Graph) -> bool:
    """Tell a reduction whose result meets full-size elements again in the same pass: `x / x.sum()`."""
    if _kind(node) != "reduction" or node.spec is None:
        return False
    later = group.nodes[group.nodes.index(node) + 1 :]
    return any(item.spec is not None and item.spec.numel > node.spec.numel for item in later)


def _row_bytes(node: Node, spec: TensorSpec) -> int:
    """Return the bytes whose statistics belong together."""
    name, size = _short(node), spec.item_bytes
    if "softmax" in name:
        axis = node.argument("dim", -1)
        return spec.shape[axis if isinstance(axis, int) else -1] * size
    if name in ("layer_norm", "rms_norm"):
        axes = node.argument("normalized_shape", ())
        return math.prod(item for item in axes if isinstance(item, int)) * size if isinstance(axes, tuple) else size
    if name == "group_norm":
        groups = node.argument("num_groups", 1)
        return math.prod(spec.shape[1:]) // (groups if isinstance(groups, int) else 1) * size
    if name == "instance_norm":
        return math.prod(spec.shape[2:]) * size
    if name not in _STATISTICS:
        return spec.numel // max(node.spec.numel if node.spec else 1, 1) * size
    return spec.numel // max(spec.shape[1], 1) * size  # batch_norm: a channel


def _flops(node: Node, graph: Graph) -> float:
    """Return the floating-point operations of an operator: a multiplication and an addition count as two."""
    name, out = _short(node), node.spec.numel if node.spec else 0
    specs = [graph.spec(ref) for ref in node.refs()]
    first = specs[0] if specs else None
    second = specs[1] if len(specs) > 1 else None
    if "conv" in name and first is not None and second is not None:
        per_position = second.numel // max(second.shape[0], 1)
        return 2.0 * (first.numel if _is_transposed(node) else out) * per_position
    if name == "scaled_dot_product_attention" and first is not None and second is not None:
        return 4.0 * first.numel * second.shape[-2]
    if name == "einsum":
        return 2.0 * _einsum_products(node, graph)
    if name in ("addmm", "baddbmm"):
        return 2.0 * out * (second.shape[-1] if second is not None else 1)
    if name in _CONTRACTIONS and first is not None:
        return 2.0 * out * first.shape[-1]
    if node.op in RECURRENT and first is not None:
        weights = sum(spec.numel for spec in specs if spec is not None and spec.ndim == 2)
        return 2.0 * first.numel / max(first.shape[-1], 1) * weights
    if "pool" in name and first is not None:
        return float(max(first.numel, out * math.prod(_window(node))))
    if _kind(node) == "pointwise":
        return float(out)
    return 4.0 * (first.numel if first is not None else out)


def _window(node: Node) -> tuple[int, ...]:
    kernel = node.argument("kernel_size", ())
    return tuple(item for item in kernel if isinstance(item, int)) if isinstance(kernel, tuple) else ()


def _is_transposed(node: Node) -> bool:
    return "transpose" in node.op or node.argument("transposed", False) is True


def _einsum_products(node: Node, graph: Graph) -> float:
    equation = str(node.argument("equation", ""))
    extents: dict[str, int] = {}
    for letters, ref in zip(equation.replace(" ", "").split("->")[0].split(","), node.refs(), strict=False):
        spec = graph.spec(ref)
        extents |= dict(zip(letters, spec.shape, strict=False)) if spec is not None else {}
    return float(math.prod(extents.values()))


def _peak(node: Node, graph: Graph, limits: Mapping[str, float]) -> str:
    """Return the limit for an operator's arithmetic under PyTorch's defaults: float32 convolutions may use TF32, float32 matrix products may not."""
    spec = next((graph.spec(ref) for ref in node.refs()), None)
    dtype = spec.dtype if spec is not None else "float32"
    if _kind(node) != "contraction":
        name = "flops_per_s_float64" if dtype == "float64" else "flops_per_s_float32"
    elif dtype == "float32":
        name = "flops_per_s_tf32" if "conv" in node.op and _on_matrix_units(node, graph) else "flops_per_s_float32"
    else:
        name = f"flops_per_s_{dtype}"
    return name if name in limits else "flops_per_s_float32"


def _on_matrix_units(node: Node, graph: Graph) -> bool:
    """Tell the convolutions that cuDNN computes on matrix units: dense ones, transposed ones up to two dimensions (seen in their rates on an H100)."""
    spec = graph.spec(node.refs()[0])
    return node.argument("groups", 1) == 1 and not (_is_transposed(node) and spec is not None and spec.ndim == 5)


def is_depthwise(node: Node, graph: Graph) -> bool:
    """Tell convolutions with one input channel per group."""
    if "conv" not in node.op:
        return False
    groups = node.argument("groups", 1)
    spec = graph.spec(node.refs()[0])
    return isinstance(groups, int) and groups > 1 and spec is not None and spec.shape[1] == groups


def is_vendors(node: Node, graph: Graph) -> bool:
    """Tell the convolutions that cuDNN's matrix-unit kernels are made for: dense images with at least a step of channels (`_CHANNELS`)."""
    spec = graph.spec(node.refs()[1]) if "conv" in node.op and len(node.refs()) > 1 else None
    return (
        spec is not None and spec.ndim == 4 and spec.shape[1] >= _CHANNELS and node.argument("groups", 1) == 1 and not _is_transposed(node)
    )


def _kind(node: Node) -> str:
    name = _short(node)
    if name in _CONTRACTIONS or "conv" in name:
        return "contraction"
    if node.op in OPERATORS or node.op in COPIES:
        return "pointwise"
    if name in _STATISTICS:
        return "statistics"
    if "pool" in name:
        return "window"
    return "reduction"


def _short(node: Node) -> str:
    return node.op.removeprefix("aten.").split(".")[0].removesuffix("_")


def _is_view(node: Node) -> bool:
    return node.op in VIEWS or node.op in EXPANSIONS or node.op == "getitem"


def _bases(graph: Graph) -> dict[str, str]:
    """Return for every value the one whose memory it looks at: itself, unless it is a view."""
    bases = {item.name: item.name for item in graph.placeholders}
    for node in graph.nodes:
        refs = node.refs()
        bases[node.name] = bases[refs[0]] if _is_view(node) and refs else node.name
    return bases


def _bytes(graph: Graph, name: str) -> int:
    spec = graph.spec(name)
    if spec is not None:
        return spec.nbytes
    node = graph.node(name)
    return _output_bytes(node) if node is not None else 0


def _output_bytes(node: Node) -> int:
    outputs: Sequence[TensorSpec | None] = node.output if isinstance(node.output, tuple) else (node.output,)
    return sum(spec.nbytes for spec in outputs if spec is not None)
