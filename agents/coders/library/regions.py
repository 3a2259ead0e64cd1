"""Partition of a graph into regions: a kernel with what it covers and fuses; everything else stays with PyTorch."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from agents.coders.library.documents import Kernel, Slot
from agents.coders.library.errors import DocumentError, LoweringError
from agents.coders.library.expressions import CPP_TYPES
from agents.coders.library.fusion import Fusion, Scene, grow_epilogue, grow_pointwise, grow_prologue, leaves, scene
from agents.coders.library.graph import Argument, Graph, Node, Ref, Symbol, TensorSpec, Value, refs_in
from agents.coders.library.patterns import find_pattern, read_pattern
from agents.coders.library.rewrites import Rewritten, has_effects
from agents.coders.library.slots import write_slot
from tools.errors import ExpressionError
from tools.expressions import Expression

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Anchor:
    """A place in the graph that at least one kernel matches."""

    key: str
    """The same for places that compute the same with the same sizes, so that a decision holds for all of them."""
    nodes: frozenset[str]
    output: str
    """The node whose value the kernel produces."""
    options: tuple[tuple[Kernel, tuple[Argument, ...]], ...]
    """Kernels that match with the arguments to launch them with, best first."""


@dataclass(frozen=True)
class Choice:
    """What is decided for the anchors of one key."""

    kernel: str
    """Name of the kernel; empty: leave it to PyTorch."""
    prologue: bool = True
    epilogue: bool = True


@dataclass(frozen=True)
class Region:
    """One launch of one kernel."""

    key: str
    kernel: Kernel
    arguments: tuple[Argument, ...]
    nodes: frozenset[str]
    produces: str
    """The value that the launch returns (for an operator with several results: the tuple)."""
    output: TensorSpec
    """What it returns; the first of several."""
    prologue: Fusion | None = None
    epilogue: Fusion | None = None
    columns: Mapping[str, int] = field(default_factory=dict)
    """Row length of each fused slot."""
    view_source_as: tuple[int, ...] | None = None
    """Shape that the prologue's source must be viewed as."""
    item: int | None = None
    """Which part of the returned tuple `produces` is; None: the whole."""
    reduces: str = ""
    """Name of the reduction of `output` that the launch makes last: over its second axis, or (`…_positions`) over all after it; empty: none."""


@dataclass(frozen=True)
class Plan:
    """A cover of a graph."""

    view: Scene
    regions: tuple[Region, ...]
    eager: tuple[Node, ...]
    """Nodes that stay with PyTorch, in order."""
    moved: frozenset[str] = frozenset()
    """Values that a launch leaves contiguous where PyTorch would have kept another layout; `view` describes them as they are."""


def scope_of(
    arguments: Sequence[Argument], graph: Graph, output: TensorSpec | None, limits: Mapping[str, float]
) -> dict[str, Any]:  # Any: expression values
    """Return the names that a kernel's expressions may use: its arguments, `output` and `limits`."""
    scope: dict[str, Any] = {argument.name: _plain(argument.value, graph) for argument in arguments}
    scope["output"] = output
    scope["limits"] = limits
    return scope


def _plain(value: Value, graph: Graph) -> Any:  # Any: expression values
    if isinstance(value, Ref):
        return graph.spec(value.name)
    if isinstance(value, Symbol):
        return value.text
    if isinstance(value, tuple):
        return tuple(_plain(item, graph) for item in value)
    return value


def holds(expressions: Sequence[Expression], scope: Mapping[str, Any]) -> bool:  # Any: expression values
    """Say whether all expressions are true; one that cannot be evaluated is false."""
    try:
        return all(expression.evaluate(scope) for expression in expressions)
    except ExpressionError as error:
        logger.debug("requirement not met: %s", error)
        return False


def find_anchors(rewritten: Rewritten, kernels: Sequence[Kernel], limits: Mapping[str, float]) -> tuple[Anchor, ...]:
    """Return every place that a kernel matches (pointwise kernels aside), in execution order; wider matches first at one place."""
    graph, pinned = rewritten.graph, rewritten.pinned
    found: dict[tuple[frozenset[str], str], list[tuple[Kernel, tuple[Argument, ...]]]] = {}
    ordered = sorted(kernels, key=lambda kernel: (-kernel.priority, kernel.name))
    for node in graph.nodes:
        if node.name in pinned or set(node.refs()) & pinned:
            continue
        for kernel in ordered:
            if node.op in kernel.matches:
                nodes, arguments = frozenset({node.name}), node.arguments
            elif kernel.pattern:
                try:
                    match = find_pattern(read_pattern(kernel.pattern, kernel.source), graph, node)
                except DocumentError as error:
                    logger.warning("%s", error)
                    continue
                if match is None or match.nodes & pinned:
                    continue
                nodes, arguments = match.nodes, match.arguments
            else:
                continue
            if any(_has_large_effect(graph.node(name)) for name in nodes):
                continue
            output = _first(node)
            if output is None or not holds(kernel.requires, scope_of(arguments, graph, output, limits)):
                continue
            if _accepts(kernel, arguments):
                found.setdefault((nodes, node.name), []).append((kernel, arguments))
    order = {node.name: index for index, node in enumerate(graph.nodes)}
    anchors = [Anchor(_key(graph, nodes, output, order), nodes, output, tuple(options)) for (nodes, output), options in found.items()]
    return tuple(sorted(anchors, key=lambda anchor: (-len(anchor.nodes), order[anchor.output])))


def _has_large_effect(node: Node | None) -> bool:
    """A kernel may take over an operator that updates running statistics only if it says so; random numbers never."""
    if node is None or not has_effects(node):
        return False
    return node.op not in ("aten.batch_norm.default", "aten.instance_norm.default")


def _accepts(kernel: Kernel, arguments: Sequence[Argument]) -> bool:
    """Say whether `launch` takes every argument that differs from its default."""
    return all(argument.name in kernel.keywords for argument in arguments if argument.is_explicit and argument.value is not None)


def _first(node: Node) -> TensorSpec | None:
    if isinstance(node.output, TensorSpec):
        return node.output
    return node.output[0] if isinstance(node.output, tuple) and node.output else None


def _key(graph: Graph, nodes: frozenset[str], output: str, order: Mapping[str, int]) -> str:
    parts = []
    for name in sorted(nodes, key=lambda item: order[item]):
        node = graph.node(name)
        assert node is not None  # anchors hold nodes
        shapes = []
        for argument in node.arguments:
            shapes.append(_describe(argument.value, graph))
        parts.append(f"{node.op.removeprefix('aten.')}({','.join(shapes)})")
    return ";".join(parts)


def _describe(value: Value, graph: Graph) -> str:
    if isinstance(value, Ref):
        spec = graph.spec(value.name)
        return "x".join(map(str, spec.shape)) + ":" + spec.dtype if spec else "tuple"
    if isinstance(value, tuple):
        return "(" + " ".join(_describe(item, graph) for item in value) + ")"
    return value.text if isinstance(value, Symbol) else repr(value)


POINTWISE = "pointwise"


def make_plan(
    rewritten: Rewritten,
    anchors: Sequence[Anchor],
    kernels: Sequence[Kernel],
    limits: Mapping[str, float],
    choices: Mapping[str, Choice],
    language: str,
) -> Plan:
    """Cover a graph by the given decisions.

    Args:
        rewritten: The graph.
        anchors: From `find_anchors`.
        kernels: All kernels at hand; the first `pointwise` one serves chains that stand alone.
        limits: The target's limits by name.
        choices: Decision per anchor key, and for `pointwise`; keys without one take the best kernel with everything fused.
        language: `triton` or `cpp`.
    """
    view = scene(rewritten.graph, rewritten.pinned, language)
    taken: frozenset[str] = frozenset()
    chosen: list[Region] = []
    for anchor in anchors:
        choice = choices.get(anchor.key, Choice(anchor.options[0][0].name))
        option = next((item for item in anchor.options if item[0].name == choice.kernel), None)
        if option is None or anchor.nodes & taken:
            continue
        kernel, arguments = option
        node = rewritten.graph.node(anchor.output)
        assert node is not None  # anchors hold nodes
        output = _first(node)
        assert output is not None  # find_anchors checked it
        region = Region(anchor.key, kernel, arguments, anchor.nodes, anchor.output, output.contiguous())
        chosen.append(_only_first_result(region, node, view))
        taken |= chosen[-1].nodes
    order = view.order
    chosen.sort(key=lambda region: order[region.produces])
    absorbed: frozenset[str] = frozenset()
    for position, region in enumerate(chosen):
        if region.nodes <= absorbed:
            continue
        if choices.get(region.key, Choice("")).epilogue or region.key not in choices:
            chosen[position] = _with_reduction(_with_epilogue(region, view, taken, limits), view, chosen, limits)
            taken |= chosen[position].nodes
            absorbed |= chosen[position].nodes if chosen[position].reduces else frozenset()
    chosen = [region for region in chosen if region.reduces or not region.nodes <= absorbed]
    for position, region in enumerate(chosen):
        if choices.get(region.key, Choice("")).prologue or region.key not in choices:
            chosen[position] = _with_prologue(region, view, taken, limits)
            taken |= chosen[position].nodes
    pointwise = _pointwise_regions(view, kernels, limits, choices, taken)
    regions = sorted([*chosen, *pointwise], key=lambda region: order[region.produces])
    covered = frozenset(name for region in regions for name in region.nodes)
    view, moved = _as_launched(view, regions)
    return Plan(view, tuple(regions), tuple(node for node in view.graph.nodes if node.name not in covered), moved)


def _as_launched(view: Scene, regions: Sequence[Region]) -> tuple[Scene, frozenset[str]]:
    """Describe what launches return as contiguous, and say which values that moves: pointwise work keeps a permuted input's layout in PyTorch."""
    produced = {region.produces for region in regions}
    moved: set[str] = set()
    nodes = []
    for node in view.graph.nodes:
        if node.name in produced or (node.op == "getitem" and node.refs()[0] in produced):
            specs = node.output if isinstance(node.output, tuple) else (node.output,)
            if any(spec is not None and not spec.is_contiguous for spec in specs):
                laid = tuple(spec and spec.contiguous() for spec in specs)
                node = replace(node, output=laid if isinstance(node.output, tuple) else laid[0])
                moved.add(node.name)
        nodes.append(node)
    return (replace(view, graph=replace(view.graph, nodes=tuple(nodes))), frozenset(moved)) if moved else (view, frozenset())


def _only_first_result(region: Region, node: Node, view: Scene) -> Region:
    """For an operator with several results of which only the first is used: produce that one."""
    if isinstance(node.output, TensorSpec):
        return region
    users = [view.graph.node(user) for user in view.users[node.name]]
    if len(users) == 1 and users[0] is not None and users[0].op == "getitem" and users[0].argument("index") == 0:
        return replace(region, nodes=region.nodes | {users[0].name}, produces=users[0].name, item=0)
    return region


def _slot_scope(region: Region, view: Scene, limits: Mapping[str, float]) -> dict[str, Any]:  # Any: expression values
    return scope_of(region.arguments, view.graph, region.output, limits)


def _columns(slot: Slot, scope: Mapping[str, Any], numel: int) -> int | None:  # Any: expression values
    try:
        columns = slot.columns.evaluate(scope)
    except ExpressionError as error:
        logger.debug("slot not usable: %s", error)
        return None
    return int(columns) if isinstance(columns, int) and columns > 0 and numel % columns == 0 else None


def _stores(view: Scene, before: TensorSpec) -> Any:  # Any: a predicate
    if view.language == "cpp":
        return lambda spec: spec.dtype == "float32"
    return lambda spec: spec.dtype not in ("float64",)


def _with_epilogue(region: Region, view: Scene, taken: frozenset[str], limits: Mapping[str, float]) -> Region:
    slot = region.kernel.slots.get("epilogue")
    node = view.graph.node(region.produces)
    if slot is None or slot.of != "output" or node is None or node.spec is None or node.spec.numel == 0:
        return region
    if view.language == "cpp" and node.spec.dtype != "float32":
        return region
    columns = _columns(slot, _slot_scope(region, view, limits), node.spec.numel)
    if columns is None:
        return region
    fusion = grow_epilogue(view, region.produces, taken, _stores(view, node.spec))
    if fusion is None or not _writes(view, fusion, "epilogue", columns) or "epilogue_extra" not in region.kernel.keywords:
        return region
    return replace(
        region,
        nodes=region.nodes | set(fusion.nodes),
        produces=fusion.result,
        output=view.spec(fusion.result).contiguous(),
        epilogue=fusion,
        columns={**region.columns, "epilogue": columns},
    )


def _with_reduction(region: Region, view: Scene, chosen: Sequence[Region], limits: Mapping[str, float]) -> Region:
    """Let the kernel reduce its results, over their second axis or all after it, where that is the only thing done with them.

    The region of the reduction's own kernel is contained in the returned one.
    """
    offered, spec, users = region.kernel.reduces, view.graph.spec(region.produces), view.users[region.produces]
    node = view.graph.node(users[0]) if len(users) == 1 else None
    if offered is None or spec is None or node is None or spec.shape != region.output.shape or node.argument("dtype") is not None:
        return region
    dim = node.argument("dim")
    axes = sorted(axis % spec.ndim for axis in (dim if isinstance(dim, tuple) else (dim,)) if isinstance(axis, int))
    is_inner = axes == list(range(2, spec.ndim))
    if node.op not in (offered.positions if is_inner else offered.operators if axes == [1] else ()):
        return region
    names, result = {node.name}, node
    if node.spec is None:  # values and indices: the values alone
        parts = [view.graph.node(user) for user in view.users[node.name]]
        if len(parts) != 1 or parts[0] is None or parts[0].op != "getitem" or parts[0].argument("index") != 0:
            return region
        names, result = {node.name, parts[0].name}, parts[0]
    others = [other for other in chosen if other is not region and other.nodes & names]
    scope = _slot_scope(region, view, limits)
    is_free = not (names & view.pinned) and all(other.nodes <= names for other in others)
    if result.spec is None or result.spec.dtype != spec.dtype or not is_free or not holds(offered.requires, scope):
        return region
    kind = node.op.split(".")[1]
    kind = {"min": "amin", "max": "amax"}.get(kind, kind)
    return replace(region, nodes=region.nodes | names, produces=result.name, reduces=f"{kind}_positions" if is_inner else kind)


def _with_prologue(region: Region, view: Scene, taken: frozenset[str], limits: Mapping[str, float]) -> Region:
    slot = region.kernel.slots.get("prologue")
    if slot is None or "prologue_extra" not in region.kernel.keywords:
        return region
    of = next((argument.value for argument in region.arguments if argument.name == slot.of), None)
    if not isinstance(of, Ref):
        return region
    anchor = frozenset(region.nodes)
    others = [ref for argument in region.arguments if argument.name != slot.of for ref in refs_in(argument.value)]
    if of.name in others:
        return region
    anchor_output = region.epilogue.source if region.epilogue else region.produces
    before = view.spec(anchor_output) if anchor_output and not (region.reduces and region.epilogue is None) else region.output
    for fusion in grow_prologue(view, of.name, anchor, taken):
        assert fusion.source is not None  # grow_prologue gives one
        source, wanted = view.spec(fusion.source), view.spec(of.name)
        read = replace(source, shape=wanted.shape).contiguous() if source.shape != wanted.shape else source
        scope = scope_of(region.arguments, view.graph, before, limits) | {slot.of: read}
        columns = _columns(slot, scope, wanted.numel)
        if columns is None or not holds(region.kernel.requires, scope) or not _writes(view, fusion, "prologue", columns):
            continue
        if view.language == "cpp" and source.dtype not in CPP_TYPES:
            continue
        arguments = tuple(replace(item, value=Ref(fusion.source)) if item.name == slot.of else item for item in region.arguments)
        return replace(
            region,
            arguments=arguments,
            nodes=region.nodes | set(fusion.nodes),
            prologue=fusion,
            columns={**region.columns, "prologue": columns},
            view_source_as=wanted.shape if source.shape != wanted.shape else None,
        )
    return region


def _writes(view: Scene, fusion: Fusion, slot: str, columns: int) -> bool:
    try:
        write_slot(view, fusion, slot, columns)
    except LoweringError as error:
        logger.debug("not fused: %s", error)
        return False
    return True


def _pointwise_regions(
    view: Scene, kernels: Sequence[Kernel], limits: Mapping[str, float], choices: Mapping[str, Choice], taken: frozenset[str]
) -> list[Region]:
    candidates = sorted((kernel for kernel in kernels if POINTWISE in kernel.matches), key=lambda kernel: (-kernel.priority, kernel.name))
    wanted = choices.get(POINTWISE)
    if wanted is not None:
        candidates = [kernel for kernel in candidates if kernel.name == wanted.kernel]
    found: list[Region] = []
    for node in reversed(view.graph.nodes):
        if node.name in taken or node.spec is None:
            continue
        fusion = grow_pointwise(view, node.name, taken)
        if fusion is None or not leaves(view, fusion):
            continue
        if view.language == "cpp" and node.spec.dtype != "float32":
            continue
        output = node.spec.contiguous()
        for kernel in candidates:
            arguments = (Argument("shape", output.shape), Argument("out_dtype", Symbol("dtype", output.dtype)))
            scope = scope_of(arguments, view.graph, output, limits)
            slot = kernel.slots.get("epilogue")
            if slot is None or not holds(kernel.requires, scope):
                continue
            columns = _columns(slot, scope, output.numel)
            if columns is None or not _writes(view, fusion, "epilogue", columns):
                continue
            key = f"{POINTWISE}:{'x'.join(map(str, output.shape))}"
            region = Region(key, kernel, arguments[:1], frozenset(fusion.nodes), node.name, output, None, fusion, {"epilogue": columns})
            found.append(region)
            taken |= region.nodes
            break
    return found
