"""What a captured graph costs at least: launches, bytes and operations, counted from shapes. Decides what is tried first, never a verdict."""

from __future__ import annotations

import math
from dataclasses import dataclass

from agents.coders.library.graph import Graph, Node, Ref
from agents.coders.library.rewrites import VIEWS

LAUNCH_S = 20e-6
"""Time of one operator on the host, in s: PyTorch's eager ResNet-101 takes 45 µs an operator on an H100 host, a bare launch about 5."""
_FLOP_PER_S = 200e12
"""Rate of products, in FLOP/s: between fp32 units and TF32 tensor cores of an H100; only the order of magnitude counts."""
_BYTES = {"float64": 8, "int64": 8, "float16": 2, "bfloat16": 2, "bool": 1, "uint8": 1, "int8": 1, "int16": 2}
_PRODUCTS = ("mm", "matmul", "linear", "bmm", "addmm", "baddbmm", "einsum")


@dataclass(frozen=True)
class Cost:
    """A lower bound of the work of one call."""

    launches: int
    """Operators that compute."""
    bytes: int
    """Inputs and parameters read once, every intermediate written once."""
    flops: float
    """Multiplications and additions of products and convolutions."""
    has_convolution: bool

    def is_launch_bound(self, bandwidth_gb_per_s: float) -> bool:
        """Say whether launching takes longer than the work."""
        return self.launches * LAUNCH_S > max(self.bytes / (bandwidth_gb_per_s * 1e9), self.flops / _FLOP_PER_S)


def estimate(graph: Graph) -> Cost:
    """Count a graph."""
    working = [node for node in graph.nodes if node.op not in VIEWS and node.op != "getitem"]
    moved = sum(_size(placeholder.name, graph) for placeholder in graph.placeholders) + sum(_size(node.name, graph) for node in working)
    return Cost(len(working), moved, sum(_flops(node, graph) for node in working), any(_is_convolution(node) for node in working))


def _size(name: str, graph: Graph) -> int:
    spec = graph.spec(name)
    return spec.numel * _BYTES.get(spec.dtype, 4) if spec else 0


def _is_convolution(node: Node) -> bool:
    return node.op.startswith("aten.conv")


def _flops(node: Node, graph: Graph) -> float:
    name = node.op.split(".")[1]
    if _is_convolution(node):
        weight, spec = node.argument("weight"), node.spec
        weights = graph.spec(weight.name) if isinstance(weight, Ref) else None
        source = node.argument("input")
        read = graph.spec(source.name) if isinstance(source, Ref) else None
        if weights is None or spec is None or read is None:
            return 0.0
        if "transpose" in name:  # every input element meets every tap of every output channel of its group
            return 2.0 * read.numel * math.prod(weights.shape[1:])
        return 2.0 * spec.numel * math.prod(weights.shape[1:])
    if name in _PRODUCTS and node.spec is not None:
        first = next((graph.spec(ref) for ref in node.refs()), None)
        return 2.0 * node.spec.numel * (first.shape[-1] if first and first.shape else 1)
    return 0.0
