"""What to try next: structure first (which kernels, what is fused, what happens to the rest), then tunables, led by measured attempts."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from agents.coders.library.compose import tunables_key
from agents.coders.library.regions import POINTWISE, Anchor, Choice, Plan, Region
from agents.coders.library.tunables import Setting, default_tunables, is_allowed, neighbours, region_scope, with_value

MAX_NEIGHBOURS = 24
CHANNELS_LAST = "channels_last"
"""The layout with the channels innermost."""
PRECISION = "PRECISION"
MORE_PRECISE = "bf16x6"
"""Value of the tunable `PRECISION` with which a TF32 kernel keeps float32 accuracy."""


@dataclass(frozen=True)
class Proposal:
    """Everything that decides a candidate's source."""

    kind: str = "kernels"
    """`kernels`; `compiled` or `eager` for the reference as it stands."""
    choices: Mapping[str, Choice] = field(default_factory=dict)
    """By anchor key; keys without one take the best kernel with everything fused."""
    tunables: Mapping[str, Setting] = field(default_factory=dict)
    """By `tunables_key`; others take the document's defaults."""
    is_rest_compiled: bool = False
    is_recorded: bool = False
    """The forward is recorded once as a CUDA graph and replayed."""
    layout: str = ""
    """`channels_last`: the reference runs on inputs and convolution weights with the channels innermost; empty: as they come."""
    note: str = ""
    """What is new in it and why, in a sentence."""


@dataclass(frozen=True)
class Measured:
    """What became of an earlier proposal."""

    proposal: Proposal
    passed: bool
    fitness: float
    latency_ms: float | None
    kernels: frozenset[tuple[str, str]]
    """Pairs of anchor key and kernel name that it launched."""
    message: str = ""
    """The failure in words; empty if it passed."""
    speedup: Mapping[str, float] = field(default_factory=dict)
    """By baseline."""


def banned(history: Sequence[Measured]) -> frozenset[tuple[str, str]]:
    """Return pairs of anchor key and kernel that a failure is blamed on: named in its message, or the only suspect left."""
    cleared = {pair for attempt in history if attempt.passed for pair in attempt.kernels}
    blamed: set[tuple[str, str]] = set()
    for attempt in history:
        if attempt.passed:
            continue
        suspects = attempt.kernels - cleared
        named = {pair for pair in suspects if f"{pair[1]}__" in attempt.message or f"{pair[1]}(" in attempt.message}
        if not named and len(suspects - blamed) == 1:
            named = set(suspects - blamed)
        has_other_tunables = (
            _is_resource_failure(attempt.message) and sum(not item.passed and item.kernels == attempt.kernels for item in history) < 3
        )
        if not has_other_tunables:
            blamed |= named
    return frozenset(blamed)


def _is_resource_failure(message: str) -> bool:
    return any(word in message for word in ("OutOfResources", "out of resource", "shared memory", "too many resources"))


def structures(
    anchors: Sequence[Anchor],
    start: Sequence[Proposal],
    has_rest: bool,
    fused: Mapping[str, tuple[bool, bool]],
    *,
    layouts: Sequence[str] = ("",),
    is_launch_bound: bool = False,
    is_recurrent: bool = False,
    is_network: bool = False,
    is_simplified: bool = False,
    can_record: bool = True,
) -> Iterator[Proposal]:
    """Yield the structures worth a measurement, most promising first.

    Args:
        anchors: With their options, best first.
        start: Proposals known to be good elsewhere, for example a sibling's winner.
        has_rest: True if PyTorch computes something beside the kernels.
        fused: For every anchor key whether its default plan fuses a prologue and an epilogue.
        layouts: Of the reference, most promising first; `channels_last` where convolutions may like it.
        is_launch_bound: Launches are expected to take longer than the work: what is recorded as a CUDA graph comes first.
        is_recurrent: It holds recurrent layers, which PyTorch's library runs better than what the compiler makes of them.
        is_simplified: Algebra took work out: what the compiler makes of the simplified forward is measured too.
        can_record: The target has CUDA graphs.
        is_network: Convolutions for which cuDNN is made follow each other: the compiled reference comes before the kernels.
    """
    yield from start
    keys: dict[str, Anchor] = {}
    for anchor in anchors:
        keys.setdefault(anchor.key, anchor)
    heavy = heavy_keys(anchors)
    first = Proposal(note="the best matching kernel everywhere, pointwise neighbours fused")
    if is_network:
        yield references(layouts, is_recorded=is_launch_bound)[0]
    if is_launch_bound:
        yield replace(first, is_recorded=True, note=f"{first.note}, {_RECORDED}")
        if is_recurrent:
            yield plain_reference(is_recorded=True)
        yield from references(layouts, is_recorded=True)
        if heavy and len(heavy) < len(keys):
            yield from_libraries(heavy, is_recorded=True)
    yield first
    if is_simplified:
        if can_record and not is_launch_bound:
            yield replace(first, is_recorded=True, note=f"{first.note}, {_RECORDED}")
        yield without_any(keys, is_compiled=True)
    if CHANNELS_LAST in layouts:
        yield from references((CHANNELS_LAST,) if keys else layouts, is_recorded=False)
    for rank in range(1, 4):
        alternatives: dict[tuple[str, str], list[str]] = {}
        for key, anchor in keys.items():
            if len(anchor.options) > rank:
                alternatives.setdefault((_short(key), anchor.options[rank][0].name), []).append(key)
        for (short, name), places in alternatives.items():  # alike places together first: one by one they would use up a budget
            if len(places) > 1:
                yield Proposal(choices=dict.fromkeys(places, Choice(name)), note=f"every {short} by `{name}`")
            else:
                yield Proposal(choices={places[0]: Choice(name)}, note=f"{short} by `{name}`")
        if rank == 1:
            if len(heavy) == 1:
                yield Proposal(choices={heavy[0]: Choice("")}, note=f"{_short(heavy[0])} left to PyTorch's library, the rest by kernels")
            if has_rest and not is_launch_bound:
                yield Proposal(is_rest_compiled=True, note="what no kernel covers goes through torch.compile")
            yield references(("",), is_recorded=False)[0]
    if len(heavy) > 1:
        yield from_libraries(heavy)
        yield Proposal(
            choices={key: Choice("") for key in heavy},
            is_rest_compiled=True,
            note="kernels for the rest, products and convolutions inside torch.compile",
        )
        for key in heavy:
            yield Proposal(choices={key: Choice("")}, note=f"{_short(key)} left to PyTorch's library, the rest by kernels")
    for key, anchor in keys.items():
        for kernel, _ in anchor.options[1:4]:
            yield Proposal(choices={key: Choice(kernel.name)}, note=f"{_short(key)} by `{kernel.name}`")
    for key, (prologue, epilogue) in fused.items():
        if key not in keys:
            continue
        best = keys[key].options[0][0].name
        if epilogue:
            yield Proposal(choices={key: Choice(best, epilogue=False)}, note=f"{_short(key)} without its fused consumers")
        if prologue:
            yield Proposal(choices={key: Choice(best, prologue=False)}, note=f"{_short(key)} without its fused producers")


def without_any(keys: Iterable[str], *, is_compiled: bool) -> Proposal:
    """Return the structure without a kernel: the simplified forward with PyTorch's operators, through torch.compile on request."""
    return Proposal(
        choices=dict.fromkeys([*keys, POINTWISE], Choice("")), is_rest_compiled=is_compiled, note=_SIMPLIFIED if is_compiled else _PLAIN
    )


def without_kernels(
    layouts: Sequence[str], *, is_launch_bound: bool = False, is_recurrent: bool = False, is_simplified: bool = False
) -> Iterator[Proposal]:
    """Yield what there is where no kernel document speaks of the target: torch.compile, recordings, layouts and algebra, most promising first.

    Args:
        layouts: See `structures`; so are the others.
    """
    if is_simplified:
        yield without_any((), is_compiled=True)
        if is_launch_bound:
            yield replace(without_any((), is_compiled=False), is_recorded=True, note=f"{_PLAIN}, {_RECORDED}")
    if is_launch_bound:
        if is_recurrent:
            yield plain_reference(is_recorded=True)
        yield from references(layouts, is_recorded=True)
    yield from references(layouts, is_recorded=False)
    yield from references(("",), is_recorded=False)
    if not is_simplified:
        yield replace(without_any((), is_compiled=True), note="the captured graph through torch.compile")
    yield plain_reference()


def references(layouts: Sequence[str], *, is_recorded: bool) -> list[Proposal]:
    """Return the reference itself through torch.compile, in each layout."""
    how = f", {_RECORDED}" if is_recorded else ""
    found = []
    for layout in layouts:
        note = f"{_CHANNELS_LAST_NOTE}{how}" if layout else f"the whole forward through torch.compile{how}, as a seed"
        found.append(Proposal(kind="compiled", layout=layout, is_recorded=is_recorded, note=note))
    return found


def plain_reference(*, is_recorded: bool = False) -> Proposal:
    """Return the reference itself with PyTorch's operators."""
    how = f", {_RECORDED}" if is_recorded else ""
    return Proposal(kind="eager", is_recorded=is_recorded, note=f"the reference itself, with PyTorch's operators{how}")


def from_libraries(heavy: Sequence[str], *, is_recorded: bool = False) -> Proposal:
    """Return the structure whose products and convolutions are PyTorch's own, so that they round as the reference does; kernels do the rest."""
    how = f", {_RECORDED}" if is_recorded else ""
    note = f"all matrix products and convolutions left to PyTorch's libraries{how}"
    return Proposal(choices={key: Choice("") for key in heavy}, is_recorded=is_recorded, note=note)


def more_precise(base: Proposal, plans: Sequence[Plan], limits: Mapping[str, float]) -> Proposal | None:
    """Return a proposal with more than TF32 in every kernel that has the choice; None where none has."""
    tunables: dict[str, Setting] = {}
    for plan in plans:
        for region in plan.regions:
            current = tunables_of(base, region, plan, limits)
            if current.get(PRECISION) == "tf32":
                exact = with_value(region.kernel, current, region_scope(region, plan, limits), PRECISION, MORE_PRECISE)
                if exact is not None:
                    tunables[tunables_key(region)] = exact
    note = f"products at float32 accuracy in place of TF32{', ' + _RECORDED if base.is_recorded else ''}"
    return replace(base, tunables={**base.tunables, **tunables}, note=note) if tunables else None


def settings(best: Proposal, plan: Plan, limits: Mapping[str, float], rng: random.Random) -> Iterator[Proposal]:
    """Yield proposals that differ from the best one by the tunables of one region, heaviest regions first, in rounds."""
    regions: dict[str, Region] = {}
    for region in plan.regions:
        regions.setdefault(tunables_key(region), region)
    queues = []
    for key, region in sorted(regions.items(), key=lambda item: -traffic(item[1], plan)):
        scope = region_scope(region, plan, limits)
        current = tunables_of(best, region, plan, limits)
        near = neighbours(region.kernel, current, scope, rng)[:MAX_NEIGHBOURS]
        queues.append((key, region, current, near))
    for turn in range(MAX_NEIGHBOURS):
        for key, region, current, near in queues:
            if turn < len(near):
                changed = ", ".join(
                    f"{name} {current.get(name)} → {value}" for name, value in near[turn].items() if current.get(name) != value
                )
                yield replace(best, tunables={**best.tunables, key: near[turn]}, note=f"`{region.kernel.name}`: {changed}")


def tunables_of(proposal: Proposal, region: Region, plan: Plan, limits: Mapping[str, float]) -> Setting:
    """Return the setting of a region: the proposal's if the constraints allow it here, else the document's default."""
    chosen = proposal.tunables.get(tunables_key(region))
    names = {tunable.name for tunable in region.kernel.tunables}
    if chosen is not None and chosen.keys() == names and is_allowed(region.kernel, chosen, region_scope(region, plan, limits)):
        return dict(chosen)
    return default_tunables(region, plan, limits)


def traffic(region: Region, plan: Plan) -> int:
    """Return how many elements a region reads and writes, a first measure of its weight."""
    total = region.output.numel
    for argument in region.arguments:
        for name in _tensors(argument.value):
            spec = plan.view.graph.spec(name)
            total += spec.numel if spec else 0
    return total * (16 if _is_heavy(region.key) else 1)


def _tensors(value: Any) -> Iterator[str]:  # Any: a graph value
    from agents.coders.library.graph import refs_in

    yield from refs_in(value)


_SIMPLIFIED = "the simplified forward through torch.compile, without kernels: what the compiler makes of the same algebra"
_PLAIN = "the simplified forward with PyTorch's operators, without kernels"
_RECORDED = "recorded as a CUDA graph"
_CHANNELS_LAST_NOTE = "the whole forward through torch.compile on channels-last inputs and weights"
_HEAVY = ("conv", "linear", "matmul", "mm.", "bmm", "addmm", "baddbmm", "scaled_dot_product", "einsum", "lstm", "gru")


def heavy_keys(anchors: Sequence[Anchor]) -> list[str]:
    """Return the distinct keys of matrix products, convolutions, attention and recurrent layers, in order."""
    return [key for key in dict.fromkeys(anchor.key for anchor in anchors) if _is_heavy(key)]


def _is_heavy(key: str) -> bool:
    return any(word in key.split("(", 1)[0] for word in _HEAVY)


def _short(key: str) -> str:
    return key.split("(", 1)[0] if not key.startswith(POINTWISE) else key
