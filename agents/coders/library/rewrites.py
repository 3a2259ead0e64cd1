"""Rewrites of a captured graph that make it easier to match and keep its meaning: no-ops go, in-place becomes functional, synonyms and some composites unfold, algebra saves work."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace

from agents.coders.library.algebra import simplified
from agents.coders.library.einsum import unfold_einsum
from agents.coders.library.expressions import OPERATORS
from agents.coders.library.graph import Argument, Graph, Node, Ref, TensorSpec, Value, replace_uses, substitute

RESHAPES = frozenset(
    {
        "aten.view.default",
        "aten.reshape.default",
        "aten._unsafe_view.default",
        "aten.flatten.using_ints",
        "aten.unflatten.int",
        "aten.unsqueeze.default",
        "aten.squeeze.default",
        "aten.squeeze.dim",
        "aten.squeeze.dims",
        "aten.view_as.default",
        "aten.reshape_as.default",
    }
)
VIEWS = RESHAPES | {
    f"aten.{name}"
    for name in [
        "transpose.int",
        "permute.default",
        "t.default",
        "numpy_T.default",
        "mT.default",
        "expand.default",
        "expand_as.default",
        "select.int",
        "slice.Tensor",
        "narrow.default",
        "split.Tensor",
        "split.sizes",
        "split_with_sizes.default",
        "chunk.default",
        "unbind.int",
        "alias.default",
        "detach.default",
        "diagonal.default",
        "movedim.int",
        "movedim.intlist",
        "swapaxes.default",
        "swapdims.default",
        "broadcast_to.default",
        "broadcast_tensors.default",
        "unfold.default",
        "as_strided.default",
    ]
}
_MAY_ALIAS = VIEWS | {
    f"aten.{name}"
    for name in [
        "contiguous.default",
        "dropout.default",
        "feature_dropout.default",
        "to.dtype",
        "to.device",
        "to.dtype_layout",
        "to.other",
        "type_as.default",
    ]
}
_SYNONYMS = {
    "multiply": "mul",
    "subtract": "sub",
    "divide": "div",
    "true_divide": "div",
    "absolute": "abs",
    "clip": "clamp",
    "negative": "neg",
    "greater": "gt",
    "greater_equal": "ge",
    "less": "lt",
    "less_equal": "le",
    "not_equal": "ne",
}
_IN_PLACE = re.compile(r"^aten\.([a-z]\w*[a-z0-9])_\.(\w+)$")


@dataclass(frozen=True)
class Rewritten:
    """A graph ready for matching."""

    graph: Graph
    pinned: frozenset[str] = frozenset()
    """Values that are written in place somewhere (or share memory with one): only PyTorch may touch them, in the captured order."""
    simplified: tuple[str, ...] = ()
    """What algebra saved, a sentence a place (`algebra`)."""
    restated: tuple[str, ...] = ()
    """What was written as other operators that do the same work, a sentence a kind."""


def rewrite(graph: Graph, anchored: Collection[str] = ()) -> Rewritten:
    """Simplify a graph.

    Args:
        graph: As captured.
        anchored: Operators that a kernel matches as they are; they are not unfolded.
    """
    graph, pinned = _functional(graph)
    graph = _without_copies(graph, pinned)
    graph = _named(_renamed(graph), pinned)
    graph, restated = _unfolded(graph, frozenset(anchored), pinned)
    graph, saved = simplified(graph, pinned, VIEWS)
    return Rewritten(_without_dead(graph, pinned), pinned, saved, restated)


def is_in_place(node: Node) -> bool:
    """Say whether a node writes into its first argument."""
    return _IN_PLACE.match(node.op) is not None


def _functional(graph: Graph) -> tuple[Graph, frozenset[str]]:
    """Turn in-place operators on fresh tensors into functional ones; pin what cannot be turned."""
    parent = {name: name for name in [*(item.name for item in graph.placeholders), *(node.name for node in graph.nodes)]}

    def find(name: str) -> str:
        while parent[name] != name:
            name = parent[name]
        return name

    shared: dict[str, set[str]] = {}
    for node in graph.nodes:
        refs = node.refs()
        if refs and (node.op in _MAY_ALIAS or node.op == "getitem"):
            for ref in refs:
                parent[find(node.name)] = find(ref)
            shared.setdefault(node.name, set()).update(refs)
    writes = [node for node in graph.nodes if is_in_place(node)]
    placeholders = {item.name for item in graph.placeholders}
    views = {find(node.name) for node in graph.nodes if node.name in shared and node.op != "aten.detach_.default"}
    pinned_classes = set()
    for node in writes:
        base = node.refs()[0]
        match = _IN_PLACE.match(node.op)
        functional = f"aten.{match.group(1)}.{match.group(2)}" if match else ""
        if node.op != "aten.detach_.default" and (
            functional not in OPERATORS or find(base) in {find(name) for name in placeholders} or find(base) in views
        ):
            pinned_classes.add(find(base))
    names: dict[str, Value] = {}
    nodes = []
    for node in graph.nodes:
        node = replace_uses(node, names)
        if is_in_place(node):
            base = node.refs()[0]
            if node.op == "aten.detach_.default":
                names[node.name] = Ref(base)
                continue
            if find(base) in pinned_classes:
                parent[find(node.name)] = find(base)
            else:
                match = _IN_PLACE.match(node.op)
                assert match is not None  # `is_in_place`
                before = graph.spec(base)
                if before is not None and node.spec is not None:
                    node = replace(node, output=replace(node.spec, dtype=before.dtype))
                node = replace(node, op=f"aten.{match.group(1)}.{match.group(2)}")
                for key in [key for key, value in names.items() if value == Ref(base)]:
                    names[key] = Ref(node.name)
                names[base] = Ref(node.name)
        nodes.append(node)
    outputs = substitute(graph.outputs, names)
    roots = {find(item) for item in pinned_classes}
    pinned = frozenset(name for name in parent if find(name) in roots)
    return replace(graph, nodes=tuple(nodes), outputs=outputs), pinned


def _without_copies(graph: Graph, pinned: Collection[str]) -> Graph:
    """Remove operators that hand on their input, and name the parts of `broadcast_tensors` as expansions."""
    placeholders = {item.name for item in graph.placeholders}
    returned = set(_refs(graph.outputs))
    names: dict[str, Value] = {}
    nodes: list[Node] = []
    specs: dict[str, TensorSpec | None] = {item.name: item.spec for item in graph.placeholders}
    broadcasts: dict[str, tuple[Value, ...]] = {}
    for node in graph.nodes:
        node = replace_uses(node, names)
        specs[node.name] = node.spec
        if node.op.startswith("aten._assert"):
            continue
        if node.op == "aten.broadcast_tensors.default":
            tensors = node.argument("tensors")
            if isinstance(tensors, tuple):
                broadcasts[node.name] = tensors
                continue
        if node.op == "getitem" and node.refs()[0] in broadcasts:
            index = node.argument("index")
            source = broadcasts[node.refs()[0]][index if isinstance(index, int) else 0]
            assert isinstance(source, Ref) and node.spec is not None  # broadcast_tensors takes and gives tensors
            if specs[source.name] is not None and specs[source.name].shape == node.spec.shape:  # type: ignore[union-attr] # checked on the left
                names[node.name] = source
                continue
            node = Node(node.name, "aten.expand.default", (Argument("self", source), Argument("size", tuple(node.spec.shape))), node.spec)
        refs = node.refs()
        if (
            len(refs) == 1
            and _hands_on(node, specs.get(refs[0]))
            and not (set(refs) | {node.name}) & set(pinned)
            and not (node.name in returned and refs[0] in placeholders)
        ):
            names[node.name] = Ref(refs[0])
            continue
        nodes.append(node)
    return replace(graph, nodes=tuple(nodes), outputs=substitute(graph.outputs, names))


def _hands_on(node: Node, before: TensorSpec | None) -> bool:
    """Say whether a node's result equals its one tensor input, element for element and in layout."""
    after = node.spec
    if node.op in ("aten.alias.default", "aten.detach.default", "aten.lift_fresh_copy.default"):
        return True
    if node.op in ("aten.dropout.default", "aten.feature_dropout.default", "aten.alpha_dropout.default"):
        return node.argument("train") is False or node.argument("p") in (0, 0.0)
    if before is None or after is None or before.shape != after.shape or before.dtype != after.dtype:
        return False
    if node.op in ("aten.contiguous.default", "aten.clone.default") or node.op.startswith("aten.to."):
        return before.is_contiguous and after.is_contiguous
    return node.op in RESHAPES or node.op in ("aten.expand.default", "aten.expand_as.default")


def _renamed(graph: Graph) -> Graph:
    nodes = []
    for node in graph.nodes:
        parts = node.op.split(".")
        if len(parts) == 3 and parts[1] in _SYNONYMS:
            node = replace(node, op=f"aten.{_SYNONYMS[parts[1]]}.{parts[2]}")
        nodes.append(node)
    return replace(graph, nodes=tuple(nodes))


def _named(graph: Graph, pinned: Collection[str]) -> Graph:
    """Give `x * tanh(softplus(x))` its name, mish: one exponential where its parts take three transcendental functions."""
    nodes = [node if set(node.refs()) & set(pinned) else _mish_of(node, graph) or node for node in graph.nodes]
    return replace(graph, nodes=tuple(nodes))


def _mish_of(node: Node, graph: Graph) -> Node | None:
    if node.op != "aten.mul.Tensor":
        return None
    left, right = node.argument("self"), node.argument("other")
    for source, gate in ((left, right), (right, left)):
        tanh = graph.node(gate.name) if isinstance(gate, Ref) else None
        soft = graph.node(tanh.refs()[0]) if tanh is not None and tanh.op == "aten.tanh.default" else None
        if soft is None or soft.op != "aten.softplus.default" or soft.argument("self") != source:
            continue
        if soft.argument("beta", 1) == 1 and soft.argument("threshold", 20) == 20:
            return Node(node.name, "aten.mish.default", (Argument("self", source),), node.output)
    return None


@dataclass
class _Unfold:
    """Builds the nodes that stand for one composite."""

    node: Node
    graph: Graph
    nodes: list[Node] = field(default_factory=list)

    def emit(self, op: str, spec: TensorSpec, *arguments: Argument, last: bool = False) -> Ref:
        name = self.node.name if last else f"{self.node.name}_part{len(self.nodes)}"  # the capture numbers names like `sum_1` itself
        self.nodes.append(Node(name, op, arguments, spec))
        return Ref(name)

    def spec_of(self, name: str) -> TensorSpec:
        value: Value = self.node.argument(name)
        spec = self.graph.spec(value.name) if isinstance(value, Ref) else None
        if spec is None:
            raise _NotUnfolded
        return spec

    def ref(self, name: str) -> Ref:
        value = self.node.argument(name)
        if not isinstance(value, Ref):
            raise _NotUnfolded
        return value

    def binary(self, op: str, spec: TensorSpec, left: Value, right: Value, last: bool = False) -> Ref:
        extra = (Argument("alpha", 1, False, True),) if op.startswith(("aten.add", "aten.sub")) else ()
        return self.emit(op, spec, Argument("self", left), Argument("other", right), *extra, last=last)

    def unary(self, op: str, spec: TensorSpec, value: Value, last: bool = False) -> Ref:
        return self.emit(op, spec, Argument("self", value), last=last)


class _NotUnfolded(Exception):
    """These arguments are not handled; the node stays as it is."""


def _elementwise(unfold: _Unfold) -> TensorSpec:
    left, right = unfold.spec_of("self"), unfold.spec_of("target")
    if left.shape != right.shape or left.dtype != right.dtype or left.dtype == "float64":
        raise _NotUnfolded
    return left.contiguous()


def _reduced(unfold: _Unfold, value: Ref, spec: TensorSpec) -> None:
    reduction = unfold.node.argument("reduction", 1)
    final = unfold.node.spec
    if reduction not in (1, 2) or final is None:
        raise _NotUnfolded
    op = "aten.mean.default" if reduction == 1 else "aten.sum.default"
    unfold.emit(op, final, Argument("self", value), Argument("dtype", None, False, True), last=True)


def _mse_loss(unfold: _Unfold) -> None:
    spec = _elementwise(unfold)
    gap = unfold.binary("aten.sub.Tensor", spec, unfold.ref("self"), unfold.ref("target"))
    _reduced(unfold, unfold.binary("aten.mul.Tensor", spec, gap, gap), spec)


def _l1_loss(unfold: _Unfold) -> None:
    spec = _elementwise(unfold)
    gap = unfold.binary("aten.sub.Tensor", spec, unfold.ref("self"), unfold.ref("target"))
    _reduced(unfold, unfold.unary("aten.abs.default", spec, gap), spec)


def _huber(unfold: _Unfold, threshold: float, quadratic: float, slope: float) -> None:
    """Quadratic below the threshold, linear above."""
    spec = _elementwise(unfold)
    gap = unfold.binary("aten.sub.Tensor", spec, unfold.ref("self"), unfold.ref("target"))
    size = unfold.unary("aten.abs.default", spec, gap)
    square = unfold.binary("aten.mul.Tensor", spec, unfold.binary("aten.mul.Tensor", spec, size, size), quadratic)
    linear = unfold.binary("aten.mul.Tensor", spec, unfold.binary("aten.sub.Tensor", spec, size, 0.5 * threshold), slope)
    near = unfold.binary("aten.lt.Scalar", replace(spec, dtype="bool"), size, threshold)
    chosen = unfold.emit("aten.where.self", spec, Argument("condition", near), Argument("self", square), Argument("other", linear))
    _reduced(unfold, chosen, spec)


def _smooth_l1_loss(unfold: _Unfold) -> None:
    beta = unfold.node.argument("beta", 1.0)
    if not isinstance(beta, int | float) or beta <= 0:
        raise _NotUnfolded
    _huber(unfold, float(beta), 0.5 / beta, 1.0)


def _huber_loss(unfold: _Unfold) -> None:
    delta = unfold.node.argument("delta", 1.0)
    if not isinstance(delta, int | float) or delta <= 0:
        raise _NotUnfolded
    _huber(unfold, float(delta), 0.5, float(delta))


def _kl_div(unfold: _Unfold) -> None:
    spec = _elementwise(unfold)
    source, target = unfold.ref("self"), unfold.ref("target")
    if unfold.node.argument("log_target", False):
        gap = unfold.binary("aten.sub.Tensor", spec, target, source)
        value = unfold.binary("aten.mul.Tensor", spec, unfold.unary("aten.exp.default", spec, target), gap)
    else:
        gap = unfold.binary("aten.sub.Tensor", spec, unfold.unary("aten.log.default", spec, target), source)
        product = unfold.binary("aten.mul.Tensor", spec, target, gap)
        empty = unfold.binary("aten.eq.Scalar", replace(spec, dtype="bool"), target, 0.0)
        value = unfold.emit("aten.where.ScalarSelf", spec, Argument("condition", empty), Argument("self", 0.0), Argument("other", product))
    _reduced(unfold, value, spec)


def _vector_norm(unfold: _Unfold) -> None:
    spec, order = unfold.spec_of("self").contiguous(), unfold.node.argument("ord", 2)
    final = unfold.node.spec
    if order not in (1, 2, 1.0, 2.0) or final is None or unfold.node.argument("dtype") is not None or spec.dtype == "float64":
        raise _NotUnfolded
    source = unfold.ref("self")
    value = unfold.unary("aten.abs.default", spec, source) if order == 1 else unfold.binary("aten.mul.Tensor", spec, source, source)
    dim, is_last = unfold.node.argument("dim"), order == 1
    if dim is None and not unfold.node.argument("keepdim"):
        total = unfold.emit("aten.sum.default", final, Argument("self", value), Argument("dtype", None, False, True), last=is_last)
    elif dim is not None:
        dim = (dim,) if isinstance(dim, int) else dim
        keep = Argument("keepdim", unfold.node.argument("keepdim", False))
        total = unfold.emit(
            "aten.sum.dim_IntList",
            final,
            Argument("self", value),
            Argument("dim", dim),
            keep,
            Argument("dtype", None, False, True),
            last=is_last,
        )
    else:
        raise _NotUnfolded
    if not is_last:
        unfold.unary("aten.sqrt.default", final, total, last=True)


def _adaptive_pool(dims: int) -> Callable[[_Unfold], None]:
    def unfold_pool(unfold: _Unfold) -> None:
        size, final = unfold.node.argument("output_size"), unfold.node.spec
        sizes = (size,) if isinstance(size, int) else size
        if final is None or not isinstance(sizes, tuple) or any(item != 1 for item in sizes) or unfold.spec_of("self").ndim != dims + 2:
            raise _NotUnfolded
        unfold.emit(
            "aten.mean.dim",
            final.contiguous(),
            Argument("self", unfold.ref("self")),
            Argument("dim", tuple(range(-dims, 0))),
            Argument("keepdim", True),
            Argument("dtype", None, False, True),
            last=True,
        )

    return unfold_pool


def _einsum(unfold: _Unfold) -> None:
    if not unfold_einsum(unfold.node, unfold.graph.spec, unfold.emit):
        raise _NotUnfolded


_COMPOSITES: dict[str, Callable[[_Unfold], None]] = {
    "aten.einsum.default": _einsum,
    "aten.mse_loss.default": _mse_loss,
    "aten.l1_loss.default": _l1_loss,
    "aten.smooth_l1_loss.default": _smooth_l1_loss,
    "aten.huber_loss.default": _huber_loss,
    "aten.kl_div.default": _kl_div,
    "aten.linalg_vector_norm.default": _vector_norm,
    "aten.adaptive_avg_pool1d.default": _adaptive_pool(1),
    "aten.adaptive_avg_pool2d.default": _adaptive_pool(2),
    "aten.adaptive_avg_pool3d.default": _adaptive_pool(3),
}


_RESTATED = {"aten.einsum.default": "an einsum is matrix products and pointwise work"}
"""What a reader should know of: composites whose other form is more than their definition."""


def _unfolded(graph: Graph, anchored: frozenset[str], pinned: Collection[str]) -> tuple[Graph, tuple[str, ...]]:
    """Return the graph with composites taken apart, and a sentence for each kind in `_RESTATED`."""
    nodes: list[Node] = []
    restated: dict[str, None] = {}
    for node in graph.nodes:
        composite = _COMPOSITES.get(node.op)
        if composite is None or node.op in anchored or set(node.refs()) & set(pinned):
            nodes.append(node)
            continue
        unfold = _Unfold(node, graph)
        try:
            composite(unfold)
        except _NotUnfolded:
            nodes.append(node)
        else:
            nodes.extend(unfold.nodes)
            restated |= {_RESTATED[node.op]: None} if node.op in _RESTATED else {}
    return replace(graph, nodes=tuple(nodes)), tuple(restated)


def _without_dead(graph: Graph, pinned: Collection[str]) -> Graph:
    alive = set(_refs(graph.outputs))
    kept: list[Node] = []
    for node in reversed(graph.nodes):
        if node.name in alive or has_effects(node) or node.name in pinned:
            alive.update(node.refs())
            kept.append(node)
    return replace(graph, nodes=tuple(reversed(kept)))


_RANDOM = (
    "aten.rand",
    "aten.normal",
    "aten.bernoulli",
    "aten.multinomial",
    "aten.dropout",
    "aten.native_dropout",
    "aten.uniform",
    "aten.exponential",
    "aten.rrelu",
)


def has_effects(node: Node) -> bool:
    """Say whether a node does more than compute: writes in place, updates running statistics, draws random numbers."""
    if is_in_place(node) or node.op.startswith(_RANDOM):
        return True
    return node.op in ("aten.batch_norm.default", "aten.instance_norm.default", "aten.native_batch_norm.default")


def _refs(value: Value) -> Sequence[str]:
    from agents.coders.library.graph import refs_in

    return tuple(refs_in(value))
