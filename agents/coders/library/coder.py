"""The library coder: problem → captured graph → plan of kernels → candidate; the next one from what the attempts so far have shown."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from agents.coders.base import CoderTask, Draft
from agents.coders.library.capture import Capture, capture
from agents.coders.library.compose import Piece, compose, compose_reference, tunables_key
from agents.coders.library.documents import Kernel, kernels_from_base
from agents.coders.library.errors import CaptureError, DocumentError, LibraryError
from agents.coders.library.graph import Graph, Node, TensorSpec, refs_in
from agents.coders.library.proposals import (
    CHANNELS_LAST,
    Measured,
    Proposal,
    banned,
    from_libraries,
    heavy_keys,
    more_precise,
    plain_reference,
    references,
    settings,
    structures,
    tunables_of,
    without_any,
    without_kernels,
)
from agents.coders.library.regions import POINTWISE, Anchor, Choice, Plan, find_anchors, make_plan
from agents.coders.library.rewrites import VIEWS, Rewritten, rewrite
from agents.coders.library.roofline import RECURRENT, estimate, is_depthwise, is_vendors, passes_of, seconds_of
from agents.types import Attempt, Memory
from tools.types import Candidate, Problem, Status

if TYPE_CHECKING:
    from kb.store import KnowledgeBase
    from kb.types import Winner

logger = logging.getLogger(__name__)

NAME = "library"
_HOST_S = 20e-6
"""Host's time for an operator, in s: PyTorch's eager ResNet-101 takes 45 µs an operator on an H100 host, a bare launch about 5."""
_NETWORK = 2
"""Convolutions in a row from which the library's win: our copies into another layout come before each of them, a channels-last forward needs none."""
_BLAMELESS = frozenset({Status.HARNESS_ERROR, Status.NOT_MEASURED})


@dataclass(frozen=True)
class _Workload:
    """One captured workload with what matches in it."""

    name: str
    captured: Graph
    rewritten: Rewritten
    anchors: tuple[Anchor, ...]


@dataclass(frozen=True)
class _Bench:
    """What is fixed for a problem on a target: graphs, kernels and limits."""

    problem: Problem
    target: str
    language: str
    kernels: tuple[Kernel, ...]
    limits: Mapping[str, float]
    workloads: tuple[_Workload, ...]
    failure: str = ""
    """Why the problem could not be captured; empty if it was."""

    def keys(self) -> tuple[str, ...]:
        """Return the distinct anchor keys over all workloads, in order: siblings agree on their number and meaning."""
        return tuple(dict.fromkeys(anchor.key for workload in self.workloads for anchor in workload.anchors))


class LibraryCoder:
    """Writes candidates from the kernels in the knowledge base, without a model. Holds caches only; safe to use from several sessions."""

    async def write(self, task: CoderTask) -> Draft:
        """Return the next candidate: structure first, then tunables; exhausted when nothing is left to try.

        Raises:
            AgentsError: The target is unknown to the tools.
        """
        return await asyncio.to_thread(self._write, task)

    async def signature(self, problem: Problem, target: str) -> str:
        """Return operators, dtypes and ranks of what the problem computes; empty if it cannot be captured."""
        return await asyncio.to_thread(_signature, problem)

    def _write(self, task: CoderTask) -> Draft:
        bench = _bench(task)
        written = {attempt.candidate.candidate_id for attempt in (*task.history, *task.parents)}
        skip = task.sibling
        for proposal in _proposals(bench, task):
            try:
                candidate, kernels = _candidate(bench, proposal)
            except (CaptureError, DocumentError) as error:
                logger.warning("left out one idea (%s): %s; the search goes on with the others", proposal.note, error)
                continue
            if candidate.candidate_id in written:
                continue
            written.add(candidate.candidate_id)
            if skip:
                skip -= 1
                continue
            chunks = tuple(dict.fromkeys(chunk for kernel in kernels for chunk in kernel.chunk_ids))
            summary = _sentence(proposal.note)
            if bench.failure:
                summary += f" The problem could not be captured ({bench.failure}), so PyTorch computes all of it."
            return Draft(candidate, summary, chunks)
        return Draft(None, "Every structure and every setting near the best one has been tried.", exhausted=True)


@dataclass(frozen=True)
class Seeds:
    """What the coder would try first for a problem, and what the first of it covers."""

    candidates: tuple[Candidate, ...]
    share: Mapping[str, float]
    """Part of the estimated time (roofline, operator by operator) that each kernel document takes over; the rest is PyTorch's."""
    left: Mapping[str, float]
    """Part of the estimated time of each operator that stays with PyTorch."""


def seeds(
    problem: Problem, target: str, kernels: Sequence[Kernel], captured: Capture, count: int = 1, winners: Sequence[Winner] = ()
) -> Seeds:
    """Return the first structures with kernels for a captured problem, without a search, a knowledge base or a device.

    Args:
        problem: What to write for.
        target: For example `cuda:sm_90`.
        kernels: From `documents.kernels_from_folder`; those of other languages than the target's are left out.
        captured: The problem's graphs.
        count: Most candidates to return; structures that cannot be composed are left out.
        winners: Of siblings; what they decided comes first.
    """
    language = _language(target)
    bench = _with_anchors(problem, target, language, tuple(kernel for kernel in kernels if kernel.language == language), captured)
    found: dict[str, Candidate] = {}
    for proposal in _kernel_proposals(bench, None, (), frozenset(), winners):
        if len(found) == count:
            break
        if proposal.kind != "kernels" or proposal.is_recorded:
            continue
        try:
            candidate, _ = _composed(bench, proposal)
        except (CaptureError, DocumentError) as error:
            logger.warning("left out one idea (%s): %s; the search goes on with the others", proposal.note, error)
            continue
        found.setdefault(candidate.candidate_id, candidate)
    return Seeds(tuple(found.values()), *_shares(bench))


@dataclass(frozen=True)
class Simplified:
    """The forward that the rewrites leave, with PyTorch's operators alone: what a kernel that rests on them is to be compared with."""

    rewrites: tuple[str, ...]
    """What was rewritten, a sentence each: algebra that saves work first, then what only has another form."""
    plain: Candidate
    compiled: Candidate
    """The same through torch.compile, as the compiled reference is."""


def simplified(problem: Problem, target: str, base: KnowledgeBase | None) -> Simplified | None:
    """Return the simplified baseline of a problem; None where nothing was rewritten or the problem cannot be captured.

    Args:
        problem: What candidates are written for.
        target: For example `cuda:sm_90`.
        base: The knowledge base that the candidates came from: operators that its kernels match as they are stay whole.

    Raises:
        AgentsError: The target is unknown to the tools.
        CaptureError: The graph holds something that cannot be written back as Python.
    """
    bench = _prepare(problem, target, _language(target), _kernels(base, target))
    found = [workload.rewritten for workload in bench.workloads]
    rewrites = dict.fromkeys([note for item in found for note in item.simplified] + [note for item in found for note in item.restated])
    if not rewrites:
        return None
    written = []
    for is_compiled in (False, True):
        candidate, _ = _candidate(bench, without_any(bench.keys(), is_compiled=is_compiled))
        written.append(replace(candidate, provenance={**candidate.provenance, "note": "simplified baseline"}))
    return Simplified(tuple(rewrites), *written)


def _shares(bench: _Bench) -> tuple[dict[str, float], dict[str, float]]:
    """Return which part of the estimated time goes to each kernel of the first structure, and to each operator beside them."""
    taken: dict[str, float] = {}
    left: dict[str, float] = {}
    total = 0.0
    for plan in _plans(bench, Proposal()):
        graph = plan.view.graph
        home = {name: region.kernel.name for region in plan.regions for name in region.nodes}
        for item in passes_of(graph, bench.limits, "eager"):
            seconds = seconds_of(item, bench.limits)
            total += seconds
            where, name = (taken, home[item.nodes[0]]) if item.nodes[0] in home else (left, item.anchor)
            where[name] = where.get(name, 0.0) + seconds
    return {name: value / total for name, value in taken.items()}, {name: value / total for name, value in left.items()}


def signature(graph: Graph) -> str:
    """Return canonical text of what a graph computes: operators in order with the dtypes and ranks of their tensors, no sizes."""
    import hashlib

    parts: list[str] = []
    for node in rewrite(graph, _everything(graph)).graph.nodes:
        if node.op in VIEWS or node.op == "getitem":
            continue
        tensors = [_rank(graph, ref) for argument in node.arguments for ref in refs_in(argument.value)]
        parts.append(f"{node.op.removeprefix('aten.').removesuffix('.default')}({','.join(tensors)})")
    text = " ".join(_runs(parts))
    if len(text) <= 2000:
        return text
    return f"{text[:1900]} … sha256:{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def _everything(graph: Graph) -> frozenset[str]:
    return frozenset(node.op for node in graph.nodes)


def _runs(parts: Sequence[str]) -> Iterator[str]:
    index = 0
    while index < len(parts):
        end = index
        while end < len(parts) and parts[end] == parts[index]:
            end += 1
        yield parts[index] if end - index == 1 else f"{parts[index]}×{end - index}"
        index = end


def _rank(graph: Graph, name: str) -> str:
    spec = graph.spec(name)
    short = {"float32": "f32", "float16": "f16", "bfloat16": "bf16", "float64": "f64", "int64": "i64", "int32": "i32", "bool": "b"}
    return f"{short.get(spec.dtype, spec.dtype)}:{spec.ndim}" if spec else "tuple"


def _signature(problem: Problem) -> str:
    try:
        captured = capture(problem.source)
    except LibraryError as error:
        logger.info("no signature for %s: %s", problem.problem_id, error)
        return ""
    return " | ".join(dict.fromkeys(signature(graph) for _, graph in captured.workloads))


def _bench(task: CoderTask) -> _Bench:
    return _prepare(task.problem, task.target, _language(task.target), _kernels(task.base, task.target))


def _kernels(base: KnowledgeBase | None, target: str) -> tuple[Kernel, ...]:
    """Return the kernels of a knowledge base in the target's language; none without a base."""
    language = _language(target)
    return () if base is None else tuple(kernel for kernel in kernels_from_base(base, target) if kernel.language == language)


def _language(target: str) -> str:
    return "cpp" if target.partition(":")[0] == "cpu" else "triton"


@lru_cache(maxsize=16)
def _limits(target: str) -> tuple[tuple[str, float], ...]:
    from tools.targets.registry import get_target

    return tuple((name, limit.value) for name, limit in get_target(target).limits().items())


_PREPARED: dict[tuple[str, str, tuple[str, ...]], _Bench] = {}


def _prepare(problem: Problem, target: str, language: str, kernels: tuple[Kernel, ...]) -> _Bench:
    key = (problem.source_hash, target, tuple(kernel.content_hash or kernel.name for kernel in kernels))
    if key in _PREPARED:
        return replace(_PREPARED[key], problem=problem)
    try:
        captured: Capture | None = capture(problem.source)
        failure = ""
    except CaptureError as error:
        captured, failure = None, str(error).split("\n")[0][:300]
    bench = _with_anchors(problem, target, language, kernels, captured, failure)
    while len(_PREPARED) >= 32:
        _PREPARED.pop(next(iter(_PREPARED)), None)
    _PREPARED[key] = bench
    return bench


def _with_anchors(
    problem: Problem, target: str, language: str, kernels: tuple[Kernel, ...], captured: Capture | None, failure: str = ""
) -> _Bench:
    limits = dict(_limits(target))
    anchored = {operator for kernel in kernels for operator in kernel.matches}
    workloads = []
    for name, graph in captured.workloads if captured else ():
        rewritten = rewrite(graph, anchored)
        workloads.append(_Workload(name, graph, rewritten, find_anchors(rewritten, kernels, limits)))
    return _Bench(problem, target, language, kernels, limits, tuple(workloads), failure)


def _plans(bench: _Bench, proposal: Proposal, without: frozenset[tuple[str, str]] = frozenset()) -> list[Plan]:
    plans = []
    for workload in bench.workloads:
        anchors = [replace(anchor, options=options) for anchor in workload.anchors if (options := _allowed(anchor, without))]
        kernels = [kernel for kernel in bench.kernels if ("", kernel.name) not in without]
        plans.append(make_plan(workload.rewritten, anchors, kernels, bench.limits, proposal.choices, bench.language))
    return plans


def _allowed(anchor: Anchor, without: frozenset[tuple[str, str]]) -> Any:  # Any: the options' type
    return tuple(option for option in anchor.options if (anchor.key, option[0].name) not in without)


_COMPOSED: OrderedDict[tuple[object, ...], tuple[Candidate, tuple[Kernel, ...]]] = OrderedDict()


def _candidate(bench: _Bench, proposal: Proposal) -> tuple[Candidate, tuple[Kernel, ...]]:
    """Compose a proposal; remembered, because every draft walks through the earlier proposals again."""
    decided = repr(
        (
            proposal.kind,
            sorted((key, repr(choice)) for key, choice in proposal.choices.items()),
            sorted((key, repr(value)) for key, value in proposal.tunables.items()),
            proposal.is_rest_compiled,
            proposal.is_recorded,
            proposal.layout,
        )
    )
    key = (
        bench.problem.source_hash,
        bench.problem.name,
        bench.target,
        tuple((kernel.name, kernel.content_hash) for kernel in bench.kernels),
        decided,
    )
    if key not in _COMPOSED:
        if len(_COMPOSED) >= 4096:
            _COMPOSED.popitem(last=False)
        _COMPOSED[key] = _composed(bench, proposal)
    candidate, kernels = _COMPOSED[key]
    return replace(candidate, provenance={**candidate.provenance, "note": proposal.note}), kernels


def _composed(bench: _Bench, proposal: Proposal) -> tuple[Candidate, tuple[Kernel, ...]]:
    headline = f"{bench.problem.name or bench.problem.problem_id} for {bench.target}, composed from the kernel library."
    provenance: dict[str, Any] = {"coder": NAME, "kind": proposal.kind, "note": proposal.note}  # Any: JSON
    if proposal.kind != "kernels":
        source = _reference(bench.problem.source, headline, proposal)
        provenance |= {"is_recorded": proposal.is_recorded, "layout": proposal.layout}
        return Candidate(source, "torch", {}, provenance), ()
    plans = _plans(bench, proposal)
    pieces = []
    regions: dict[str, dict[str, Any]] = {}  # Any: JSON
    kernels: dict[str, Kernel] = {}
    for workload, plan in zip(bench.workloads, plans, strict=True):
        chosen = {tunables_key(region): tunables_of(proposal, region, plan, bench.limits) for region in plan.regions}
        pieces.append(Piece(workload.name, workload.captured, plan, chosen, proposal.is_rest_compiled, workload.rewritten.simplified))
        for region in plan.regions:
            kernels[region.kernel.name] = region.kernel
            regions[tunables_key(region)] = {
                "key": region.key,
                "kernel": region.kernel.name,
                "prologue": region.prologue is not None,
                "epilogue": region.epilogue is not None,
                "tunables": chosen[tunables_key(region)],
                "shape": list(region.output.shape),
            }
    is_meant = proposal.is_rest_compiled or proposal.choices.get(POINTWISE) == Choice("")
    if not kernels and not is_meant:
        raise CaptureError("no kernel of the knowledge base fits any part of it")
    source = compose(bench.problem.source, pieces, bench.language, headline, is_recorded=proposal.is_recorded)
    provenance |= {
        "is_recorded": proposal.is_recorded,
        "kernels": sorted(kernels),
        "documents": {name: {"source": kernel.source, "hash": kernel.content_hash} for name, kernel in sorted(kernels.items())},
        "regions": list(regions.values()),
        "anchors": list(bench.keys()),
        "choices": {key: [choice.kernel, choice.prologue, choice.epilogue] for key, choice in proposal.choices.items()},
        "rest": "compiled" if proposal.is_rest_compiled else "eager",
        "simplified": sorted({note for workload in bench.workloads for note in workload.rewritten.simplified}),
        "restated": sorted({note for workload in bench.workloads for note in workload.rewritten.restated}),
        "precision": sorted({kernel.precision_class for kernel in kernels.values()}),
    }
    return Candidate(source, bench.language if kernels else "torch", {}, provenance), tuple(kernels.values())


def _reference(source: str, headline: str, proposal: Proposal) -> str:
    is_compiled = proposal.kind == "compiled"
    try:
        return compose_reference(source, headline, is_compiled=is_compiled, is_recorded=proposal.is_recorded, layout=proposal.layout)
    except CaptureError:
        if proposal.is_recorded or proposal.layout:
            raise
        tail = "\n\nimport torch\n\nModelNew.forward = torch.compile(ModelNew.forward, dynamic=False)\n" if is_compiled else ""
        return f"{source.rstrip()}\n\n\nclass ModelNew(Model):\n    pass\n{tail}"


def _proposals(bench: _Bench, task: CoderTask) -> Iterator[Proposal]:
    """Yield what to try, in order; a pure function of the task, so that a resumed run goes on with the same candidates."""
    history = [measured for attempt in (*task.history, *task.parents) if (measured := _measured(attempt)) is not None]
    without = banned(history)
    if bench.workloads:
        yield from _kernel_proposals(bench, task, history, without, task.winners)
    elif _is_gpu(bench.target):  # what could not be captured: nothing is known but that launches may be what it waits for
        yield plain_reference(is_recorded=True)
        yield from references(("",), is_recorded=True)
    yield Proposal(kind="compiled", note="the whole forward through torch.compile, as a seed")
    yield plain_reference()


def _kernel_proposals(
    bench: _Bench,
    task: CoderTask | None,
    history: Sequence[Measured],
    without: frozenset[tuple[str, str]],
    winners: Sequence[Winner],
) -> Iterator[Proposal]:
    anchors = [
        replace(anchor, options=options)
        for workload in bench.workloads
        for anchor in workload.anchors
        if (options := _allowed(anchor, without))
    ]
    avoid = {key: Choice("") for key, _ in without}
    avoid |= {anchor.key: Choice(anchor.options[0][0].name) for anchor in anchors if anchor.key in avoid}
    plans = _plans(bench, Proposal(choices=avoid), without)
    fused = {region.key: (region.prologue is not None, region.epilogue is not None) for plan in plans for region in plan.regions}
    has_rest = any(_computes(node) for plan in plans for node in plan.eager)
    start = [proposal for winner in winners if (proposal := _from_winner(bench, winner)) is not None]
    nature = _nature(bench)
    is_recorded = bool(nature.get("is_launch_bound"))
    is_simplified = any(workload.rewritten.simplified for workload in bench.workloads)
    if task is not None:
        for proposal in _rescues(task, history, heavy_keys(anchors), nature):
            yield replace(proposal, choices={**avoid, **proposal.choices}) if proposal.kind == "kernels" else proposal
    if not bench.kernels:
        yield from start
        yield from without_kernels(
            _layouts(nature), is_launch_bound=is_recorded, is_recurrent=bool(nature.get("is_recurrent")), is_simplified=is_simplified
        )
        return
    passed = [attempt for attempt in history if attempt.passed and attempt.proposal.kind == "kernels"]
    if not passed and any(not attempt.passed and attempt.proposal.kind == "kernels" for attempt in history):
        for proposal in _repairs(bench, plans, avoid, without, heavy_keys(anchors)):
            yield replace(proposal, choices={**avoid, **proposal.choices}, is_recorded=is_recorded)
    for proposal in structures(
        anchors,
        start,
        has_rest,
        fused,
        layouts=_layouts(nature),
        is_launch_bound=is_recorded,
        is_recurrent=bool(nature.get("is_recurrent")),
        is_network=bool(nature.get("is_network")),
        is_simplified=is_simplified,
        can_record=_is_gpu(bench.target),
    ):
        merged = {**avoid, **{key: choice for key, choice in proposal.choices.items() if (key, choice.kernel) not in without}}
        yield replace(proposal, choices=merged) if proposal.kind == "kernels" else proposal
    if passed and task:
        for base in _bases(task, passed):
            for plan in _plans(bench, base.proposal):
                yield from settings(base.proposal, plan, bench.limits, task.rng())


def _bases(task: CoderTask, passed: Sequence[Measured]) -> list[Measured]:
    """Return what tunables are moved from: what the strategy expands, then the best; without memory any that passed, since a draft knows no fitness."""
    best = max(passed, key=lambda attempt: (attempt.fitness, -(attempt.latency_ms or 0.0)))
    parents = [measured for item in reversed(task.parents) if (measured := _measured(item)) is not None and measured.passed]
    expanded = [parent for parent in parents if parent.proposal.kind == "kernels"][:1]
    if not expanded and task.memory is Memory.CLEAN:
        expanded = [task.rng().choice(passed)]
    return [*expanded, *(item for item in [best] if item not in expanded)]


def _rescues(task: CoderTask, history: Sequence[Measured], heavy: Sequence[str], nature: Mapping[str, bool]) -> Iterator[Proposal]:
    """What should pass whatever the budget: four evaluations never end with nothing, and nothing slower than PyTorch is all there is.

    After one failure the reference through torch.compile, after two the library's products with kernels for the rest, after three the reference itself.
    Once something passed that is slower than PyTorch: the reference in the form that was measured to be the faster one, compiled or as it is, so that
    what is shipped is no slower; where launches dominate a recording of it before, unless this is the last evaluation. Then the other forms.
    """
    is_recorded = bool(nature.get("is_launch_bound"))
    failures = len({attempt.candidate.candidate_id for attempt in (*task.history, *task.parents)})
    if not any(attempt.passed for attempt in history):
        if failures > 0:
            yield references(("",), is_recorded=is_recorded)[0]
        if failures > 2:
            yield plain_reference()
        if failures > 1 and heavy:
            yield from_libraries(heavy, is_recorded=is_recorded)
    elif max(attempt.fitness for attempt in history) < 1.0:
        as_measured = plain_reference() if _is_eager_stronger(history) else references(("",), is_recorded=False)[0]
        if is_recorded and task.budget_left.evaluations != 1:
            if nature.get("is_recurrent") or as_measured.kind == "eager":
                yield plain_reference(is_recorded=True)
            yield references(("",), is_recorded=True)[0]
        yield as_measured
        yield from references(_layouts(nature), is_recorded=is_recorded)
        yield references(("",), is_recorded=False)[0]
        yield plain_reference()


def _is_eager_stronger(history: Sequence[Measured]) -> bool:
    """Say which baseline the attempts were measured to be up against: the one over which the speedup is smaller."""
    known = [attempt.speedup for attempt in history if {"eager", "compiled"} <= attempt.speedup.keys()]
    return not known or known[-1]["eager"] < known[-1]["compiled"]


def _layouts(nature: Mapping[str, bool]) -> tuple[str, ...]:
    """Return the layouts worth trying for the reference: convolutions like the channels innermost, depthwise ones do not."""
    if not nature.get("has_convolution"):
        return ("",)
    return ("", CHANNELS_LAST) if nature.get("has_depthwise") else (CHANNELS_LAST, "")


def _repairs(
    bench: _Bench, plans: Sequence[Plan], avoid: Mapping[str, Choice], without: frozenset[tuple[str, str]], heavy: Sequence[str]
) -> Iterator[Proposal]:
    """Other structures after a failure: more exact products, without what is blamed, without our products, without fusion, without each kernel in turn."""
    base = Proposal(choices=avoid, note="without the kernels that failed")
    exact = more_precise(base, plans, bench.limits)
    if exact is not None:
        yield exact
    if without:
        yield base
    keys = {region.key: region.kernel.name for plan in plans for region in plan.regions}
    if heavy and any(key not in heavy for key in keys):
        yield from_libraries(heavy)
    plain = {key: Choice(name, prologue=False, epilogue=False) for key, name in keys.items()}
    yield Proposal(choices=plain, note="the same kernels with nothing fused, since the fused ones failed")
    if len(keys) > 1:
        for key, name in keys.items():
            yield Proposal(choices={**plain, key: Choice("")}, note=f"without `{name}`, to see which kernel failed")


def _nature(bench: _Bench) -> dict[str, bool]:
    """Return what decides the order of structures on a GPU; elsewhere nothing is recorded and no layout is tried."""
    if not _is_gpu(bench.target):
        return {}
    captured = [node for workload in bench.workloads for node in workload.captured.nodes]
    return {
        "is_launch_bound": any(_is_launch_bound(workload.rewritten.graph, bench.limits) for workload in bench.workloads),
        "is_recurrent": any(node.op in RECURRENT for node in captured),
        "has_convolution": any(node.op.startswith("aten.conv") for node in captured),
        "has_depthwise": any(is_depthwise(node, workload.captured) for workload in bench.workloads for node in workload.captured.nodes),
        "is_network": any(
            sum(is_vendors(node, workload.captured) for node in workload.captured.nodes) >= _NETWORK for workload in bench.workloads
        ),
    }


def _is_launch_bound(graph: Graph, limits: Mapping[str, float]) -> bool:
    """Say whether launching the operators takes the host about as long as the chip needs to run them; no where the chip's documents lack a peak.

    A recording copies inputs in and outputs out, so what it costs counts against it.
    """
    if any(node.op in RECURRENT for node in graph.nodes):
        return True
    try:
        found = estimate(graph, limits, "eager")
        copied = sum(spec.numel * 4 for spec in _passed(graph)) * 2e-9 / limits["dram_gb_per_s"]
    except KeyError as error:
        logger.debug("no estimate without the limit %s", error)
        return False
    return (
        len(found.passes) * _HOST_S > 0.5 * found.seconds + copied
    )  # the estimate is at peak rates; real kernels reach about half of them


def _passed(graph: Graph) -> Iterator[TensorSpec]:
    """Yield the inputs and outputs of a forward."""
    inputs = [item.name for item in graph.placeholders if item.kind == "input"]
    for name in [*inputs, *refs_in(graph.outputs)]:
        spec = graph.spec(name)
        if spec is not None:
            yield spec


def _is_gpu(target: str) -> bool:
    return target.partition(":")[0] in ("cuda", "rocm")


def _computes(node: Node) -> bool:
    return node.op not in VIEWS and node.op != "getitem"


def _measured(attempt: Attempt) -> Measured | None:
    """Read an attempt of this coder back; None for another coder's, and for failures that say nothing about the candidate."""
    provenance, evaluation = attempt.candidate.provenance, attempt.evaluation
    if provenance.get("coder") != NAME or evaluation.status in _BLAMELESS:
        return None
    proposal = _from_provenance(provenance)
    feedback = evaluation.feedback
    message = "\n".join([evaluation.reason, *feedback.lint, feedback.error, feedback.first_mismatch])
    kernels = frozenset((str(region["key"]), str(region["kernel"])) for region in provenance.get("regions", ()))
    passed = evaluation.status is Status.PASSED
    speedup = {name: interval.value for name, interval in evaluation.speedup.items()}
    return Measured(proposal, passed, evaluation.fitness, evaluation.latency_ms, kernels, "" if passed else message, speedup)


def _from_provenance(provenance: Mapping[str, Any]) -> Proposal:  # Any: JSON
    choices = {key: Choice(str(value[0]), bool(value[1]), bool(value[2])) for key, value in provenance.get("choices", {}).items()}
    tunables = {f"{region['key']}|{region['kernel']}": dict(region["tunables"]) for region in provenance.get("regions", ())}
    return Proposal(
        str(provenance.get("kind", "kernels")),
        choices,
        tunables,
        is_rest_compiled=provenance.get("rest") == "compiled",
        is_recorded=provenance.get("is_recorded") is True,
        layout=str(provenance.get("layout", "")),
        note=str(provenance.get("note", "")),
    )


def _from_winner(bench: _Bench, winner: Winner) -> Proposal | None:
    """Put a winner's decisions onto this problem: the i-th anchor of one is the i-th anchor of the other."""
    provenance = winner.provenance
    if provenance.get("coder") != NAME:
        return None
    old = _from_provenance(provenance)
    how = (
        "the winner of the same problem"
        if winner.problem_hash == bench.problem.source_hash
        else f"the winner of the sibling {winner.problem_id}"
    )
    if old.kind != "kernels":
        return replace(old, note=f"as {how}")
    names = [str(key) for key in provenance.get("anchors", ())]
    own = bench.keys()
    if len(names) != len(own):
        return None
    rename = dict(zip(names, own, strict=True))
    choices = {rename[key]: choice for key, choice in old.choices.items() if key in rename}
    chosen = {rename[str(region["key"])]: region for region in provenance.get("regions", ()) if str(region["key"]) in rename}
    for key, region in chosen.items():
        choices.setdefault(key, Choice(str(region["kernel"])))
    choices = {key: choice for key, choice in choices.items() if not choice.kernel or choice.kernel in _names(bench, key)}
    tunables = {f"{key}|{region['kernel']}": dict(region["tunables"]) for key, region in chosen.items()}
    streams = [region for region in provenance.get("regions", ()) if str(region["key"]).startswith("pointwise:")]
    if streams:
        for plan in _plans(bench, Proposal(choices=choices)):
            own_streams = [region for region in plan.regions if region.key.startswith("pointwise:")]
            for theirs, ours in zip(streams, own_streams, strict=False):
                tunables[f"{ours.key}|{theirs['kernel']}"] = dict(theirs["tunables"])
    note = f"from {how}: same kernels and tunables"
    return Proposal("kernels", choices, tunables, old.is_rest_compiled, old.is_recorded, note=note)


def _names(bench: _Bench, key: str) -> frozenset[str]:
    """Return the kernels that fit at the anchors of a key; all pointwise ones for chains."""
    found = {
        option[0].name for workload in bench.workloads for anchor in workload.anchors if anchor.key == key for option in anchor.options
    }
    return frozenset(found | ({kernel.name for kernel in bench.kernels} if key == POINTWISE else set()))


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}." if text else "The default."


__all__ = ["NAME", "LibraryCoder", "Simplified", "signature", "simplified"]
