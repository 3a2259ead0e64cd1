"""Which pointwise work may be fused into a slot: growth of producer and consumer chains around a kernel."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from agents.coders.library.errors import LoweringError
from agents.coders.library.expressions import COPIES, CPP_TYPES, EXPANSIONS, FILLS, OPERATORS, TRITON_TYPES, Builder, Operand, lower
from agents.coders.library.graph import Graph, Node, TensorSpec, refs_in
from agents.coders.library.rewrites import RESHAPES

MAX_EXTRAS = 16
MAX_FUSED_NODES = 64


@dataclass(frozen=True)
class Fusion:
    """Pointwise nodes that a slot computes."""

    nodes: tuple[str, ...]
    """In execution order; reshapes that keep the row-major order are among them."""
    source: str | None
    """The value that enters the slot; None where the kernel has no input (`pointwise`)."""
    result: str
    """The node whose value the slot returns."""
    numel: int
    """Elements of the logical tensor."""


@dataclass(frozen=True)
class Scene:
    """A graph with what fusion must know about it."""

    graph: Graph
    language: str
    pinned: frozenset[str]
    users: Mapping[str, Sequence[str]]
    order: Mapping[str, int]
    fusable: frozenset[str]
    """Pointwise nodes that the language can express."""

    def spec(self, name: str) -> TensorSpec:
        """The tensor spec of a value that is known to be a tensor."""
        spec = self.graph.spec(name)
        assert spec is not None
        return spec


def scene(graph: Graph, pinned: frozenset[str], language: str) -> Scene:
    """Prepare a graph for fusion in one language."""
    fusable = frozenset(
        node.name for node in graph.nodes if not ({node.name} | set(node.refs())) & pinned and _expressible(node, graph, language)
    )
    return Scene(graph, language, pinned, graph.users(), {node.name: index for index, node in enumerate(graph.nodes)}, fusable)


def kind_of(dtype: str) -> str:
    """Return the operand kind of a dtype: `f`, `i` or `b`."""
    return "b" if dtype == "bool" else "f" if "float" in dtype else "i"


def _expressible(node: Node, graph: Graph, language: str) -> bool:
    if node.op not in OPERATORS or node.spec is None:
        return False
    types = CPP_TYPES if language == "cpp" else TRITON_TYPES
    operands = {}
    for ref in node.refs():
        spec = graph.spec(ref)
        if spec is None or spec.dtype not in types or spec.dtype == "float64":
            return False
        operands[ref] = literal_operand(graph, ref) or Operand("x", kind_of(spec.dtype))
    if node.spec.dtype not in types or node.spec.dtype == "float64" or node.spec.numel == 0:
        return False
    try:
        lower(Builder(language), node, operands)
    except LoweringError:
        return False
    return True


def literal_operand(graph: Graph, name: str) -> Operand | None:
    """Return a constant with one known element as a literal, whatever its dtype."""
    placeholder = graph.placeholder(name)
    if placeholder is None or placeholder.kind not in ("constant", "literal") or not isinstance(placeholder.value, bool | int | float):
        return None
    if placeholder.kind == "constant" and (placeholder.spec is None or placeholder.spec.ndim > 0):
        return None
    kind = kind_of(placeholder.spec.dtype) if placeholder.spec else "f"
    return Builder("triton").const(placeholder.value, kind)


def _full(view: Scene, name: str, numel: int) -> bool:
    node = view.graph.node(name)
    if node is None or node.spec is None or node.spec.numel != numel:
        return False
    if name in view.fusable:
        return True
    return is_reshape(view, node) and name not in view.pinned


def is_reshape(view: Scene, node: Node) -> bool:
    """Say whether a node keeps the row-major order of one tensor."""
    if node.op not in RESHAPES or node.spec is None:
        return False
    before = view.graph.spec(node.refs()[0])
    return before is not None and before.numel == node.spec.numel


def grow_epilogue(
    view: Scene, start: str, taken: frozenset[str], accept: Callable[[TensorSpec], bool] = lambda spec: True
) -> Fusion | None:
    """Return the largest set of pointwise consumers of `start` that leaves through one value.

    Args:
        view: The graph.
        start: The value that the kernel produces.
        taken: Nodes that belong to other regions.
        accept: Says whether the kernel can store a result of this spec.
    """
    numel = view.spec(start).numel
    chain: list[str] = []
    members = {start}
    for node in view.graph.nodes:
        if node.name in taken or node.name == start or len(chain) >= MAX_FUSED_NODES:
            continue
        if set(node.refs()) & members and _full(view, node.name, numel):
            members.add(node.name)
            chain.append(node.name)
    for last in reversed(chain):
        spec = view.spec(last)
        end = view.graph.node(last)
        assert end is not None  # chain holds nodes
        if not accept(spec) or is_reshape(view, end) or end.op in EXPANSIONS:
            continue
        inside = _ancestors(view, last, members) | {start}
        if any(user not in inside for name in inside - {last} for user in view.users[name]):
            continue
        inside = _absorb(view, inside - {start}, taken, frozenset({start}), last)
        fusion = _fusion(view, inside, start, last, numel)
        if len(leaves(view, fusion)) <= MAX_EXTRAS:
            return fusion
    return None


def grow_prologue(view: Scene, of: str, anchor: frozenset[str], taken: frozenset[str]) -> list[Fusion]:
    """Return sets of pointwise producers of `of`, largest first, each with every possible source.

    Args:
        view: The graph.
        of: The value that the kernel reads.
        anchor: The nodes of the kernel itself, the only ones that may use `of`.
        taken: Nodes that belong to other regions.
    """
    node = view.graph.node(of)
    if node is None or of in taken or any(user not in anchor for user in view.users[of]):
        return []
    numel = view.spec(of).numel
    if not _full(view, of, numel):
        return []
    inside = {of}
    for candidate in reversed(view.graph.nodes[: view.order[of]]):
        if len(inside) >= MAX_FUSED_NODES or candidate.name in taken or not _full(view, candidate.name, numel):
            continue
        users = view.users[candidate.name]
        if users and all(user in inside for user in users):
            inside.add(candidate.name)
    found = []
    for nodes in (inside, {of}):
        nodes = _absorb(view, set(nodes), taken, frozenset(), of)
        if not any(name in view.fusable for name in nodes):
            continue
        trial = _fusion(view, nodes, None, of, numel)
        for leaf in leaves(view, trial):
            spec = view.spec(leaf)
            if spec.numel == numel and "float" in spec.dtype and spec.dtype != "float64" and spec.is_contiguous:
                fusion = _fusion(view, nodes, leaf, of, numel)
                if _same_order(view, fusion, leaf) and len(leaves(view, fusion)) <= MAX_EXTRAS and fusion not in found:
                    found.append(fusion)
    return found


def grow_pointwise(view: Scene, last: str, taken: frozenset[str]) -> Fusion | None:
    """Return the pointwise nodes that end in `last` and have no other way out."""
    if last in taken or last not in view.fusable or _op(view, last) in EXPANSIONS:
        return None
    numel = view.spec(last).numel
    inside = {last}
    for candidate in reversed(view.graph.nodes[: view.order[last]]):
        if len(inside) >= MAX_FUSED_NODES or candidate.name in taken or not _full(view, candidate.name, numel):
            continue
        users = view.users[candidate.name]
        if users and all(user in inside for user in users):
            inside.add(candidate.name)
    inside = _absorb(view, inside, taken, frozenset(), last)
    fusion = _fusion(view, inside, None, last, numel)
    worth = [name for name in fusion.nodes if name in view.fusable and _op(view, name) not in COPIES | FILLS | EXPANSIONS]
    return fusion if worth and len(leaves(view, fusion)) <= MAX_EXTRAS else None


def leaves(view: Scene, fusion: Fusion) -> tuple[str, ...]:
    """Return the values that a fusion reads beside its source, in order of first use; folded literals excluded."""
    inside = set(fusion.nodes)
    found: dict[str, None] = {}
    for name in fusion.nodes:
        node = view.graph.node(name)
        assert node is not None  # fusions hold nodes
        for ref in operand_refs(view, node):
            if ref not in inside and ref != fusion.source and literal_operand(view.graph, ref) is None:
                found[ref] = None
    return tuple(found)


def operand_refs(view: Scene, node: Node) -> tuple[str, ...]:
    """Return the values whose elements a node needs (the input of `full_like` is not one of them)."""
    if node.op in FILLS:
        return ()
    if is_reshape(view, node) or node.op in EXPANSIONS:
        return node.refs()[:1]
    return tuple(dict.fromkeys(ref for argument in node.arguments for ref in refs_in(argument.value)))


def _op(view: Scene, name: str) -> str:
    node = view.graph.node(name)
    return node.op if node else ""


def _ancestors(view: Scene, last: str, members: set[str]) -> set[str]:
    found: set[str] = set()
    stack = [last]
    while stack:
        name = stack.pop()
        if name in found:
            continue
        found.add(name)
        node = view.graph.node(name)
        if node is not None:
            stack.extend(ref for ref in node.refs() if ref in members and ref not in found)
    return found


def _absorb(view: Scene, inside: set[str], taken: frozenset[str], stop: frozenset[str], last: str) -> set[str]:
    """Add pointwise producers of the extras that nobody else uses, whatever their (broadcast) shape."""
    for candidate in reversed(view.graph.nodes[: view.order[last]]):
        name = candidate.name
        if name in inside or name in taken or name in stop or name not in view.fusable or len(inside) >= MAX_FUSED_NODES:
            continue
        users = view.users[name]
        if users and all(user in inside for user in users) and not any(_reshapes_it(view, user, name) for user in users):
            inside = inside | {name}
    return inside


def _reshapes_it(view: Scene, user: str, name: str) -> bool:
    node = view.graph.node(user)
    return node is not None and is_reshape(view, node) and name in node.refs()


def _fusion(view: Scene, nodes: set[str], source: str | None, result: str, numel: int) -> Fusion:
    return Fusion(tuple(sorted(nodes, key=lambda name: view.order[name])), source, result, numel)


def _same_order(view: Scene, fusion: Fusion, leaf: str) -> bool:
    """Say whether every use of the leaf reads element i of the leaf for element i of the result."""
    shape = [size for size in view.spec(leaf).shape if size != 1]
    for name in fusion.nodes:
        node = view.graph.node(name)
        assert node is not None and node.spec is not None  # fusions hold tensor nodes
        if leaf in node.refs() and not is_reshape(view, node) and [size for size in node.spec.shape if size != 1] != shape:
            return False
    return True
