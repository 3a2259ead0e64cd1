"""Several passes over one program in one record. Figures stand side by side, the most trusted source first; where two measured the same thing, they are compared."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tools.profiling.types import Figure, KernelProfile, Profile
from tools.types import Evidence

AGREEMENT_BOUND = 0.1
"""Two tools agree when their figures differ by at most this share of the larger one."""
_ORDER = {"time": ("torch.profiler", "proton", "rocprof", "ncu"), "": ("ncu", "rocprof", "proton", "torch.profiler")}
"""Times come first from the tool that disturbs least, counters first from the one that reads hardware."""
_EXPLAINED = {
    "ncu": "Nsight Compute runs each kernel alone, flushes caches between replays and may lock clocks, so its durations differ from those in the program",
    "proton": "Proton's figures stated in launch metadata come from the program, not from counters",
}
_TRITON_SUFFIX = re.compile(r"_\d+d(?:\d+d?e?)*\Z")


@dataclass(frozen=True)
class Agreement:
    """One figure of one kernel by two tools, per launch where it is a sum."""

    kernel: str
    name: str
    left: Figure
    right: Figure
    difference: float
    """|left - right| / larger, per launch; 0: equal."""
    agrees: bool
    explanation: str
    """Why they may differ; empty if they agree or nobody knows."""


def merged(profiles: Sequence[Profile]) -> Profile:
    """Return one record of several over the same program.

    Sums are per profile: `launches` is of the first profile that saw the kernel, and figures of other passes are scaled to it, which their source then says. Host figures and the timeline are the first profile's that has them.
    """
    if not profiles:
        return Profile(target="")
    base = profiles[0]
    names = [kernel.name for kernel in base.kernels]
    pool: dict[tuple[str, str], list[KernelProfile]] = {}
    for profile in profiles:
        own = [kernel.name for kernel in profile.kernels]
        for kernel in profile.kernels:
            name = _same_kernel(kernel.name, names, own)
            if name not in names:
                names.append(name)
            pool.setdefault((name, kernel.kind), []).append(kernel)
    kernels = [_joined(name, group) for (name, _), group in pool.items()]
    return dataclasses.replace(
        base,
        target=next((profile.target for profile in profiles if profile.target), ""),
        device=next((profile.device for profile in profiles if profile.device), ""),
        passes=tuple(record for profile in profiles for record in profile.passes),
        kernels=tuple(sorted(kernels, key=lambda kernel: (-kernel.time_us, kernel.name))),
        host=_distinct([figure for profile in profiles for figure in profile.host]),
        regions=tuple(region for profile in profiles for region in profile.regions),
        timeline=next((profile.timeline for profile in profiles if profile.timeline), None),
        missing=tuple(dict.fromkeys(item for profile in profiles for item in profile.missing)),
    )


def agreements(profile: Profile) -> tuple[Agreement, ...]:
    """Return every figure that two tools measured of one kernel, worst agreement first. Derived, compiled and simulated figures are not compared."""
    found = []
    for kernel in profile.kernels:
        by_name: dict[str, list[Figure]] = {}
        for figure in kernel.figures:
            if figure.evidence is Evidence.MEASURED and not figure.source.startswith("derived"):
                by_name.setdefault(figure.name, []).append(figure)
        for name, figures in by_name.items():
            for other in figures[1:]:
                if _tool(other.source) != _tool(figures[0].source):
                    found.append(_compare(kernel.name, name, figures[0], other))
    return tuple(sorted(found, key=lambda item: (-item.difference, item.kernel, item.name)))


def _compare(kernel: str, name: str, left: Figure, right: Figure) -> Agreement:
    largest = max(abs(left.value), abs(right.value))
    difference = abs(left.value - right.value) / largest if largest else 0.0
    agrees = difference <= AGREEMENT_BOUND
    reason = "" if agrees else next((text for tool, text in _EXPLAINED.items() if tool in (_tool(left.source), _tool(right.source))), "")
    return Agreement(kernel, name, left, right, difference, agrees, reason)


def _joined(name: str, group: Sequence[KernelProfile]) -> KernelProfile:
    launches = next((kernel.launches for kernel in group if kernel.launches), 0)
    figures: list[Figure] = []
    for kernel in group:
        scale = launches / kernel.launches if kernel.launches and kernel.launches != launches else 1.0
        figures += [_scaled(figure, scale, kernel.launches) for figure in kernel.figures]
    ordered = sorted(enumerate(figures), key=lambda item: (_rank(item[1]), item[0]))
    remarks = tuple(dict.fromkeys(remark for kernel in group for remark in kernel.remarks))
    limiter = next((kernel.limiter for kernel in group if kernel.limiter), "")
    lines = next((kernel.lines for kernel in group if kernel.lines), ())
    return KernelProfile(name, group[0].kind, launches, _distinct([figure for _, figure in ordered]), limiter, remarks, lines)


_SUMMED_UNITS = frozenset({"us", "bytes", "1", "cycles"})
_NOT_SUMMED = re.compile(
    r".*(?:_per_\w+|_fraction|grid_size|block_size|threads|waves|longest_launch_us|mean_launch_us|blocks_by_\w+|num_warps|programs|spill_bytes|scratch_bytes|\w+_load_bytes|binary_bytes)|stall_(?!\w+_cycles)\w+"
)


def _scaled(figure: Figure, scale: float, launches: int) -> Figure:
    if scale == 1.0 or figure.unit not in _SUMMED_UNITS or figure.evidence is not Evidence.MEASURED or _NOT_SUMMED.fullmatch(figure.name):
        return figure
    return dataclasses.replace(figure, value=figure.value * scale, source=f"{figure.source} (of {launches} launches, scaled)")


def _rank(figure: Figure) -> tuple[int, int]:
    evidence = {Evidence.MEASURED: 0, Evidence.COMPILED: 1, Evidence.SIMULATED: 2}[figure.evidence]
    order = _ORDER["time"] if figure.group == "time" else _ORDER[""]
    tool = _tool(figure.source)
    return evidence, order.index(tool) if tool in order else len(order)


def _tool(source: str) -> str:
    first = source.split(" ", 1)[0]
    return "rocprof" if first.startswith("rocprof") else first


def _distinct(figures: Sequence[Figure]) -> tuple[Figure, ...]:
    seen: Mapping[tuple[str, str], Figure] = {(figure.name, figure.source): figure for figure in reversed(figures)}
    return tuple(
        figure
        for figure in dict.fromkeys(figures)
        if seen[figure.name, figure.source] is figure or seen[figure.name, figure.source] == figure
    )


def _same_kernel(name: str, known: Sequence[str], own: Sequence[str]) -> str:
    """Return the known kernel that a name stands for: tools print the same kernel with or without arguments, return type and specialisation suffix.

    Args:
        known: Names so far.
        own: All names of the profile that `name` is from. Instances of one template are told apart by their arguments, and left apart where those are missing.
    """
    if name in known:
        return name
    whole = _without_spelling(name)
    if same := [other for other in known if _without_spelling(other) == whole]:
        return same[0]
    last = _last_name(name)
    alike = [other for other in known if _last_name(other) == last and other not in own]
    if len(alike) == 1 and sum(1 for other in own if _last_name(other) == last) == 1:
        return alike[0]
    scores = sorted(((_overlap(name, other), other) for other in alike), reverse=True)
    is_clear = scores and scores[0][0] > 0 and (len(scores) == 1 or scores[0][0] > scores[1][0])
    rivals = [_overlap(other, scores[0][1]) for other in own if other != name and _last_name(other) == last] if is_clear else []
    return scores[0][1] if is_clear and all(scores[0][0] > rival for rival in rivals) else name


def _last_name(name: str) -> str:
    """Return a kernel's own name without namespaces: tools leave out inline ones."""
    return bare_name(name).rpartition("::")[2]


def _overlap(left: str, right: str) -> float:
    """Return how much the words of two names with their template arguments have in common, 0 to 1."""
    one, other = (set(re.findall(r"[A-Za-z_]\w+", text.replace("_cuda", ""))) for text in (left, right))
    return len(one & other) / len(one | other) if one | other else 0.0


def _without_spelling(name: str) -> str:
    return re.sub(r"\s+|\(anonymous namespace\)|<unnamed>|^void ", "", name)


def bare_name(name: str) -> str:
    """Return a kernel's name without return type, template and function arguments, and without Triton's specialisation suffix (`_0d1d2de`)."""
    text = name.strip().removeprefix("void ")
    if not text.startswith("("):
        text = re.split(r"[(<]", text, maxsplit=1)[0]
    return _TRITON_SUFFIX.sub("", text).strip() or name
