"""Algebra that holds for all inputs and saves work: a sum over the results of a linear operator needs only the sum of its weights.

Exact in real numbers; in floating point the order of additions changes, as with any other kernel. What was used is named in `Rewritten.simplified`,
in the candidate's docstring and in its provenance, so that a speedup that comes from algebra can be told from one that comes from a kernel.

- A sum or mean over the last axis of `linear` or `matmul`: `sum_o (x W^T + b)_o = x (sum_o W_o) + sum_o b_o`.
- A sum or mean over all positions of a convolution (of stride one) or transposed convolution: every tap meets a box of the input, so sums over boxes
  times the weights; a border that padding cuts off is taken out of the boxes of the taps that it cuts.
- An average pool over the last axis of `linear` whose windows do not overlap: the linear layer of averaged weights.
- Between the two, products with a number, and sums with a number or a tensor of its own.
- A sum, mean, largest, smallest or log-sum-exp over axes of size one is its input.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace

from agents.coders.library.graph import Argument, Graph, Node, Ref, TensorSpec, Value
from agents.coders.library.layout import reshaped

_SUMS = {"aten.sum.dim_IntList": False, "aten.mean.dim": True}
_TRIVIAL = frozenset({*_SUMS, "aten.amax.default", "aten.amin.default", "aten.logsumexp.default", "aten.max.dim", "aten.min.dim"})
_CONVOLUTIONS = {f"aten.conv{n}d.default": (n, False) for n in (1, 2, 3)}
_CONVOLUTIONS |= {
    "aten.conv_transpose1d.default": (1, True),
    "aten.conv_transpose2d.input": (2, True),
    "aten.conv_transpose3d.input": (3, True),
}
_FLOATS = ("float32", "float64")
"""Half types round what is summed beforehand to fewer bits than the operator's own accumulator has."""


class _NotSimpler(Exception):
    """These nodes are not of the forms above; they stay."""


@dataclass
class _Built:
    """New nodes in the place of one."""

    graph: Graph
    name: str
    dtype: str
    nodes: list[Node] = field(default_factory=list)

    def spec(self, ref: Ref) -> TensorSpec:
        found = next((node.spec for node in self.nodes if node.name == ref.name), None) or self.graph.spec(ref.name)
        if found is None:
            raise _NotSimpler
        return found

    def emit(self, op: str, shape: Sequence[int], *arguments: Argument, stride: Sequence[int] | None = None) -> Ref:
        """Add an operator whose result is contiguous unless a view's strides are given: kernels read what the strides say."""
        name = f"{self.name}_sum{len(self.nodes)}"
        self.nodes.append(
            Node(name, op, arguments, TensorSpec(tuple(shape), self.dtype, tuple(_strides(shape) if stride is None else stride)))
        )
        return Ref(name)

    def total(self, value: Ref, axes: Sequence[int], *, mean: bool = False, keep: bool = True) -> Ref:
        """Sum over axes; the mean over them on request."""
        spec = self.spec(value)
        shape = [1 if axis in axes else size for axis, size in enumerate(spec.shape) if keep or axis not in axes]
        op = "aten.mean.dim" if mean else "aten.sum.dim_IntList"
        dtype = Argument("dtype", None, False, True)
        return self.emit(op, shape, Argument("self", value), Argument("dim", tuple(axes)), Argument("keepdim", keep), dtype)

    def scaled(self, value: Ref, factor: float) -> Ref:
        """Multiply with a number."""
        if factor == 1:
            return value
        return self.emit("aten.mul.Tensor", self.spec(value).shape, Argument("self", value), Argument("other", factor))

    def added(self, left: Ref, right: Value, sign: str = "add") -> Ref:
        """Add or subtract, with broadcasting."""
        other = self.spec(right).shape if isinstance(right, Ref) else ()
        shape = _broadcast(self.spec(left).shape, other)
        one = Argument("alpha", 1, False, True)
        return self.emit(f"aten.{sign}.Tensor", shape, Argument("self", left), Argument("other", right), one)

    def shaped(self, value: Ref, shape: Sequence[int]) -> Ref:
        """Give another shape."""
        if self.spec(value).shape == tuple(shape):
            return value
        stride = reshaped(self.spec(value), shape).stride
        return self.emit("aten.reshape.default", shape, Argument("self", value), Argument("shape", tuple(shape)), stride=stride)

    def product(self, left: Ref, right: Ref) -> Ref:
        """Multiply matrices."""
        shape = (*self.spec(left).shape[:-1], self.spec(right).shape[-1])
        return self.emit("aten.matmul.default", shape, Argument("self", left), Argument("other", right))

    def part(self, value: Ref, axis: int, start: int, stop: int) -> Ref:
        """Take a run of indices along an axis."""
        shape = [stop - start if other == axis else size for other, size in enumerate(self.spec(value).shape)]
        bounds = (Argument("start", start), Argument("end", stop), Argument("step", 1, False))
        return self.emit(
            "aten.slice.Tensor", shape, Argument("self", value), Argument("dim", axis), *bounds, stride=self.spec(value).stride
        )

    def turned(self, value: Ref, order: Sequence[int]) -> Ref:
        """Give the axes another order."""
        spec = self.spec(value)
        shape, stride = ([sizes[axis] for axis in order] for sizes in (spec.shape, spec.stride))
        return self.emit("aten.permute.default", shape, Argument("self", value), Argument("dims", tuple(order)), stride=stride)


def simplified(graph: Graph, pinned: Collection[str], views: Collection[str]) -> tuple[Graph, tuple[str, ...]]:
    """Return the graph with what the algebra above saves taken out, and a sentence for each place.

    Args:
        graph: With in-place operators already made functional.
        pinned: Values that only PyTorch may touch.
        views: Operators whose result shares memory with their first argument.
    """
    notes: list[str] = []
    changed = True
    while changed:
        changed = False
        for node in graph.nodes:
            if node.name in pinned or set(node.refs()) & set(pinned):
                continue
            try:
                nodes, gone, note = _simplified(node, graph, pinned, views)
            except _NotSimpler:
                continue
            kept: list[Node] = []
            for other in graph.nodes:
                if other.name == node.name:
                    kept += nodes
                elif other.name not in gone:
                    kept.append(other)
            graph = replace(graph, nodes=tuple(kept))
            notes += [note] if note else []
            changed = True
            break
    return graph, tuple(notes)


def _simplified(node: Node, graph: Graph, pinned: Collection[str], views: Collection[str]) -> tuple[list[Node], frozenset[str], str]:
    """Return the nodes in place of one, earlier nodes that are no longer needed, and a sentence.

    Raises:
        _NotSimpler: Nothing is gained.
    """
    if node.op == "getitem":
        return _of_one(node, graph, views)
    source = node.argument("self")
    spec = graph.spec(source.name) if isinstance(source, Ref) else None
    if not isinstance(source, Ref) or spec is None or node.spec is None or spec.dtype not in _FLOATS:
        raise _NotSimpler
    if node.op == "aten.avg_pool1d.default":
        return _pooled_linear(node, source, graph, pinned)
    if node.op not in _TRIVIAL or node.argument("dtype") is not None:
        raise _NotSimpler
    axes = _axes(node, spec.ndim)
    if math.prod(spec.shape[axis] for axis in axes) == 1:
        return [_in_place_of_copy(node.name, source, node.spec, graph, views)], frozenset(), ""
    if node.op not in _SUMS:
        raise _NotSimpler
    built = _Built(graph, node.name, spec.dtype)
    chain, base = _chain(source, graph, pinned, axes)
    result, note = _sum_of(base, axes, built)
    count = math.prod(spec.shape[axis] for axis in axes)
    if _SUMS[node.op]:
        result = built.scaled(result, 1.0 / count)
    for step in reversed(chain):
        result = _applied(step, result, axes, spec, count, built, is_mean=_SUMS[node.op])
    built.nodes.append(_reshape(node.name, result, node.spec))
    return built.nodes, frozenset({base.name, *(step.name for step in chain)}), note


def _of_one(node: Node, graph: Graph, views: Collection[str]) -> tuple[list[Node], frozenset[str], str]:
    """The largest or smallest of one element (`max(dim)[0]`) is that element; its index is left alone."""
    parent = graph.node(node.refs()[0]) if node.refs() else None
    if parent is None or parent.op not in ("aten.max.dim", "aten.min.dim") or node.argument("index") != 0 or node.spec is None:
        raise _NotSimpler
    source = parent.argument("self")
    spec = graph.spec(source.name) if isinstance(source, Ref) else None
    if not isinstance(source, Ref) or spec is None or math.prod(spec.shape[axis] for axis in _axes(parent, spec.ndim)) != 1:
        raise _NotSimpler
    return [_in_place_of_copy(node.name, source, node.spec, graph, views)], frozenset(), ""


def _in_place_of_copy(result: str, source: Ref, spec: TensorSpec, graph: Graph, views: Collection[str]) -> Node:
    """Let a view stand in for a copy only where nothing else sees the memory and it lies as the copy would: computed here, for one consumer.

    Raises:
        _NotSimpler: It is an input, a view of one, used elsewhere or not contiguous.
    """
    before = graph.spec(source.name)
    if before is None or not reshaped(before, spec.shape).is_contiguous:
        raise _NotSimpler
    users = graph.users()
    name = source.name
    while True:
        node = graph.node(name)
        if node is None or len(users[name]) != 1 or node.op == "getitem":
            raise _NotSimpler
        if node.op not in views:
            return _reshape(result, source, spec)
        name = node.refs()[0]


def _reshape(name: str, source: Ref, spec: TensorSpec) -> Node:
    return Node(name, "aten.reshape.default", (Argument("self", source), Argument("shape", tuple(spec.shape))), spec.contiguous())


def _axes(node: Node, ndim: int) -> tuple[int, ...]:
    dim = node.argument("dim")
    axes = (dim,) if isinstance(dim, int) else dim
    if not isinstance(axes, tuple) or not axes:
        axes = tuple(range(ndim))
    return tuple(sorted({axis % ndim for axis in axes if isinstance(axis, int)}))


def _only_user(name: str, graph: Graph, pinned: Collection[str]) -> Node:
    """Return the node of a value that nothing but its one consumer needs.

    Raises:
        _NotSimpler: It is an input, is pinned or has other users.
    """
    node = graph.node(name)
    if node is None or name in pinned or len(graph.users()[name]) != 1:
        raise _NotSimpler
    return node


def _chain(source: Ref, graph: Graph, pinned: Collection[str], axes: Sequence[int]) -> tuple[list[Node], Node]:
    """Return what lies between a linear operator and the sum over its results, last first, and that operator."""
    chain: list[Node] = []
    node = _only_user(source.name, graph, pinned)
    while node.op in ("aten.mul.Tensor", "aten.div.Tensor", "aten.add.Tensor", "aten.sub.Tensor"):
        left, right = node.argument("self"), node.argument("other")
        before, own = (graph.spec(left.name) if isinstance(left, Ref) else None), node.spec
        if not isinstance(left, Ref) or before is None or own is None or before.shape != own.shape or before.dtype != own.dtype:
            raise _NotSimpler
        is_number = isinstance(right, int | float) and not isinstance(right, bool)
        if not is_number and (not isinstance(right, Ref) or node.op in ("aten.mul.Tensor", "aten.div.Tensor")):
            raise _NotSimpler
        if isinstance(right, Ref) and (graph.spec(right.name) is None or graph.spec(right.name).dtype != own.dtype):  # type: ignore[union-attr] # checked on the left
            raise _NotSimpler
        if node.argument("alpha", 1) != 1:
            raise _NotSimpler
        chain.append(node)
        node = _only_user(left.name, graph, pinned)
    return chain, node


def _applied(step: Node, value: Ref, axes: Sequence[int], spec: TensorSpec, count: int, built: _Built, *, is_mean: bool) -> Ref:
    """Apply to the sum (or mean) what was applied to every element before."""
    other = step.argument("other")
    if step.op in ("aten.mul.Tensor", "aten.div.Tensor"):
        return built.emit(step.op, built.spec(value).shape, Argument("self", value), Argument("other", other))
    sign = step.op.split(".")[1]
    if not isinstance(other, Ref):
        assert isinstance(other, int | float)  # `_chain` took numbers and tensors
        return built.added(value, other if is_mean else other * count, sign)
    size = built.spec(other).shape
    mine = [axis - (spec.ndim - len(size)) for axis in axes if axis >= spec.ndim - len(size)]
    long = [axis for axis in mine if size[axis] != 1]
    if long:
        other = built.total(other, long, mean=is_mean)
    covered = math.prod(size[axis] for axis in long)
    return built.added(value, other if is_mean else built.scaled(other, count // covered), sign)


def _sum_of(base: Node, axes: Sequence[int], built: _Built) -> tuple[Ref, str]:
    """Emit the sum over axes of what a linear operator gives, the axes kept with size one.

    Raises:
        _NotSimpler: It is no such operator, or the axes are others.
    """
    if base.spec is None:
        raise _NotSimpler
    if base.op == "aten.linear.default" and axes == (base.spec.ndim - 1,):
        result = _vector_product(_ref(base, "input"), built.total(_ref(base, "weight"), (0,), keep=False), built)
        bias = base.argument("bias")
        if isinstance(bias, Ref):
            result = built.added(result, built.total(bias, (0,)))
        return result, "the sum over a linear layer's results is one product with the sum of its weights"
    if base.op == "aten.matmul.default" and axes == (base.spec.ndim - 1,):
        left, right = _ref(base, "self"), _ref(base, "other")
        if built.spec(right).ndim != 2 or built.spec(left).ndim < 2:
            raise _NotSimpler
        turned = built.graph.node(right.name)
        if turned is not None and turned.op in (
            "aten.t.default",
            "aten.numpy_T.default",
            "aten.mT.default",
            "aten.transpose.int",
            "aten.permute.default",
        ):
            # a matrix on its side: its rows lie in memory as they are summed
            weights = built.total(Ref(turned.refs()[0]), (0,), keep=False)
            if built.spec(Ref(turned.refs()[0])).shape != built.spec(right).shape[::-1]:
                raise _NotSimpler
        else:
            weights = built.total(right, (1,), keep=False)
        return _vector_product(left, weights, built), "the sum over a matrix product's columns is one product with the sum of the columns"
    if base.op in _CONVOLUTIONS:
        return _sum_of_convolution(base, axes, built), "the sum over a convolution's positions needs sums over boxes of its input alone"
    raise _NotSimpler


def _vector_product(matrix: Ref, vector: Ref, built: _Built) -> Ref:
    if built.spec(matrix).ndim < 2:
        raise _NotSimpler
    return built.product(matrix, built.shaped(vector, (*built.spec(vector).shape, 1)))


def _sum_of_convolution(base: Node, axes: Sequence[int], built: _Built) -> Ref:
    count, is_transposed = _CONVOLUTIONS[base.op]
    source, weight, bias = _ref(base, "input"), _ref(base, "weight"), base.argument("bias")
    before, form, after = built.spec(source), built.spec(weight), base.spec
    if after is None or before.ndim != count + 2 or tuple(axes) != tuple(range(2, count + 2)) or base.argument("groups", 1) != 1:
        raise _NotSimpler
    stride, padding, spread = (
        _sizes(base.argument(name, default), count) for name, default in (("stride", 1), ("padding", 0), ("dilation", 1))
    )
    if not is_transposed and set(stride) != {1}:
        raise _NotSimpler
    taps = form.shape[2:]
    boxes = []
    for axis in range(count):
        size, out = before.shape[axis + 2], after.shape[axis + 2]
        runs = []
        for tap in range(taps[axis]):
            shift = tap * spread[axis] - padding[axis]
            if is_transposed:  # position i gives to i · stride + shift
                first, last = -(shift // stride[axis]), (out - 1 - shift) // stride[axis]
            else:  # result o takes from o + shift
                first, last = shift, shift + out - 1
            runs.append((min(max(first, 0), size), min(max(last + 1, 0), size)))
        boxes.append(runs)
    inner = form.shape[0] if is_transposed else form.shape[1]
    outer = form.shape[1] if is_transposed else form.shape[0]
    whole = [axis for axis in range(count) if all(run == (0, before.shape[axis + 2]) for run in boxes[axis])]
    sums = source
    for axis in reversed([axis for axis in range(count) if axis not in whole]):
        sums = _sums_along(sums, axis + 2, boxes[axis], built)
    if whole:
        sums = built.total(sums, [axis + 2 for axis in whole])
        weight = built.total(weight, [axis + 2 for axis in whole])
    depth = inner * math.prod(built.spec(weight).shape[2:])
    order = (0, *range(2, count + 2), 1) if is_transposed else (1, *range(2, count + 2), 0)
    result = built.product(built.shaped(sums, (before.shape[0], depth)), built.shaped(built.turned(weight, order), (depth, outer)))
    result = built.shaped(result, (before.shape[0], outer, *([1] * count)))
    if isinstance(bias, Ref):
        result = built.added(result, built.scaled(built.shaped(bias, (outer, *([1] * count))), math.prod(after.shape[2:])))
    return result


def _sums_along(value: Ref, axis: int, runs: Sequence[tuple[int, int]], built: _Built) -> Ref:
    """Emit for each run of indices the sum along an axis: the whole less the little that a run leaves out."""
    size = built.spec(value).shape[axis]
    if any(first >= last or last - first < size // 2 for first, last in runs):
        raise _NotSimpler
    whole = built.total(value, (axis,))
    known: dict[tuple[int, int], Ref] = {(0, size): whole}
    for run in runs:
        if run not in known:
            rest = whole
            for start, stop in ((0, run[0]), (run[1], size)):
                if start < stop:
                    border = built.part(value, axis, start, stop)
                    rest = built.added(rest, border if stop - start == 1 else built.total(border, (axis,)), "sub")
            known[run] = rest
    shape = [len(runs) if other == axis else length for other, length in enumerate(built.spec(value).shape)]
    return built.emit("aten.cat.default", shape, Argument("tensors", tuple(known[run] for run in runs)), Argument("dim", axis))


def _pooled_linear(node: Node, source: Ref, graph: Graph, pinned: Collection[str]) -> tuple[list[Node], frozenset[str], str]:
    """`avg_pool1d(linear(x))` with windows side by side: average the weights first."""
    size = _sizes(node.argument("kernel_size"), 1)[0]
    stride = node.argument("stride")
    padding = _sizes(node.argument("padding", 0), 1)[0]
    if padding or stride not in ((), None, size, (size,)) or size < 2 or node.argument("ceil_mode") is True:
        raise _NotSimpler
    gone, between = [], _only_user(source.name, graph, pinned)
    while between.op in ("aten.unsqueeze.default", "aten.view.default", "aten.reshape.default"):
        gone.append(between.name)
        before = graph.spec(between.refs()[0])
        if before is None or between.spec is None or before.shape[-1] != between.spec.shape[-1]:
            raise _NotSimpler
        between = _only_user(between.refs()[0], graph, pinned)
    if between.op != "aten.linear.default" or between.spec is None or node.spec is None:
        raise _NotSimpler
    built = _Built(graph, node.name, between.spec.dtype)
    weight, bias = _ref(between, "weight"), between.argument("bias")
    outer, inner = built.spec(weight).shape
    windows = outer // size
    if windows * size != outer:
        raise _NotSimpler
    pooled: Value = built.total(built.shaped(weight, (windows, size, inner)), (1,), mean=True, keep=False)
    less = built.total(built.shaped(bias, (windows, size)), (1,), mean=True, keep=False) if isinstance(bias, Ref) else None
    shape = (*between.spec.shape[:-1], windows)
    arguments = (Argument("input", _ref(between, "input")), Argument("weight", pooled), Argument("bias", less, less is not None))
    result = built.emit("aten.linear.default", shape, *arguments)
    built.nodes.append(_reshape(node.name, result, node.spec))
    return (
        built.nodes,
        frozenset({between.name, *gone}),
        "the average of a linear layer's neighbouring results is a linear layer of averaged weights",
    )


def _ref(node: Node, name: str) -> Ref:
    value = node.argument(name)
    if not isinstance(value, Ref):
        raise _NotSimpler
    return value


def _sizes(value: Value, count: int) -> tuple[int, ...]:
    items = (value,) if isinstance(value, int) else value
    if not isinstance(items, tuple) or not all(isinstance(item, int) for item in items) or len(items) not in (1, count):
        raise _NotSimpler
    numbers = tuple(item for item in items if isinstance(item, int))
    return numbers * count if len(numbers) == 1 else numbers


def _strides(shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))


def _broadcast(left: Sequence[int], right: Sequence[int]) -> tuple[int, ...]:
    longest = max(len(left), len(right))
    padded = [(1,) * (longest - len(shape)) + tuple(shape) for shape in (left, right)]
    return tuple(max(pair) for pair in zip(*padded, strict=True))
