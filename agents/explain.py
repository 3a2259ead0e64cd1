"""Why one candidate is faster than another: which figures moved, how much of the time each kernel accounts for, and which changed lines stand behind it.

Lines are tied to kernels by the source (a change inside a kernel's function, or in code that names the kernel). Where the tools can compile or run candidates, each change is
also applied alone, and what it moves by itself is stated: then a change is a cause and not only a suspect.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agents.errors import OptionError, UnknownNameError
from agents.explain_changes import Change, changes_between, with_only
from tools.profiling.merge import bare_name
from tools.profiling.types import Figure, KernelProfile, Profile
from tools.types import Candidate, Evidence, Problem

MOVED = 0.05
"""A figure has moved if it changed by more than this share of the larger value."""
MAX_ALONE = 6
"""Changes that are tried alone."""
_STATE = ("device_time_us", "host_self_time_us")


@dataclass(frozen=True)
class Side:
    """One of the two."""

    label: str
    profile: Profile
    source: str = ""
    latency_ms: float | None = None
    """As the evaluator measured it; None if it did not."""


@dataclass(frozen=True)
class Movement:
    """One figure of one kernel that changed."""

    kernel: str
    name: str
    before: float
    after: float
    unit: str
    source: str
    evidence: Evidence

    @property
    def ratio(self) -> float | None:
        """After / before; None where before is 0."""
        return self.after / self.before if self.before else None


@dataclass(frozen=True)
class Explanation:
    """What changed between two candidates."""

    first: str
    second: str
    total: Movement | None
    """Latency where the evaluator measured both, else device time, else the operators' time."""
    by_kernel: tuple[Movement, ...]
    """Times of kernels that changed, came or went, largest change first; they add up to the change of the profile's time."""
    figures: tuple[Movement, ...]
    """Other figures that moved, largest change first."""
    changes: tuple[tuple[Change, tuple[str, ...]], ...]
    """Each change of the source with the kernels it touches."""
    alone: tuple[tuple[Change, tuple[Movement, ...]], ...]
    """Changes applied alone to the first source, and what each moved."""
    notes: tuple[str, ...]


def explain_two(first: Side, second: Side, *, profile_alone: Callable[[str], Profile] | None = None) -> Explanation:
    """Compare two sides.

    Args:
        profile_alone: Profiles a source; given, each change is applied alone and profiled.
    """
    notes = []
    calls = (max(first.profile.num_calls, 1), max(second.profile.num_calls, 1))
    by_kernel, figures = _movements(first.profile, second.profile, calls)
    changes = changes_between(first.source, second.source) if first.source and second.source else ()
    names = tuple(
        dict.fromkeys(bare_name(kernel.name) for side in (first, second) for kernel in side.profile.kernels if kernel.kind == "kernel")
    )
    tied = tuple((change, change.touches(names)) for change in changes)
    alone: list[tuple[Change, tuple[Movement, ...]]] = []
    if profile_alone is not None and 1 < len(changes) <= MAX_ALONE:
        for change in changes:
            source = with_only(first.source, change)
            if source is None:
                notes.append(f"{change.place} cannot be applied alone: the rest of the source depends on it")
                continue
            tried = profile_alone(source)
            if not tried.kernels:
                notes.append(
                    f"{change.place} alone does not compile or launch: {tried.missing[0].reason if tried.missing else 'nothing was seen'}"
                )
                continue
            moved = _movements(first.profile, tried, (calls[0], max(tried.num_calls, 1)))
            alone.append((change, (*moved[0], *moved[1])))
    elif len(changes) > MAX_ALONE:
        notes.append(f"{len(changes)} changes are too many to try alone (at most {MAX_ALONE}): they are named, not told apart")
    notes += _notes(first, second)
    return Explanation(first.label, second.label, _total(first, second, calls), by_kernel, figures, tied, tuple(alone), tuple(notes))


def open_side(path: Path, problem: str, target: str, passes: tuple[str, ...], kernelbench: Path | None) -> Side:
    """Return a side from a record or a profiler's file, or from a candidate, which is profiled.

    Raises:
        OptionError: No such file, or a candidate without a problem.
        ToolsError: The file cannot be read, or there is no such target.
    """
    if not path.is_file():
        raise OptionError(f"no such file: {path}; give a record, a profiler's file, or a candidate (.py)")
    if path.suffix != ".py":
        from tools.profiling.formats.registry import read_profile_file

        kept = path.with_suffix(".files") / "candidate.py"  # `kevolve profile --out` keeps it there
        return Side(path.name, read_profile_file(path), kept.read_text(encoding="utf-8") if kept.is_file() else "")
    if not problem:
        raise OptionError("give --problem: whose inputs the candidates get")
    from agents.workbench import resolve_target
    from tools.problems import load_problem
    from tools.targets.registry import get_target

    source = path.read_text(encoding="utf-8")
    exact = resolve_target("auto") if target in ("", "auto") else get_target(target).describe().name
    loaded = load_problem(problem, kernelbench_root=kernelbench)
    return Side(path.name, profile_source(source, loaded, exact, passes), source)


def profile_source(source: str, problem: Problem, target: str, passes: tuple[str, ...]) -> Profile:
    """Profile a candidate's source."""
    from tools.profiling.collect import Request, collect

    return collect(Request(Candidate(source, "triton" if "triton" in source else "torch"), problem, target, passes))


def explain_run(home: Path, run: str, passes: tuple[str, ...]) -> Explanation:
    """Compare a run's first passing node with its best.

    Raises:
        UnknownNameError: No such run, or fewer than two nodes passed.
    """
    from agents.runs.store import RunStore

    with RunStore(home) as store:
        record = store.run(run)
        nodes = [node for node in store.nodes(record.run_id) if node.fitness > 0]
    if len(nodes) < 2:
        raise UnknownNameError(
            f"run {record.run_id} has {len(nodes)} passing nodes; two are needed to compare (kevolve explain A B compares any two candidates)"
        )
    first, best = nodes[0], max(nodes, key=lambda node: node.fitness)
    if first.node_id == best.node_id:
        first = next(node for node in nodes if node.node_id != best.node_id)
    sides = [
        Side(
            f"node {node.node_id}",
            profile_source(node.candidate.source, record.problem, record.target, passes),
            node.candidate.source,
            node.evaluation.latency_ms,
        )
        for node in (first, best)
    ]
    return explain_two(*sides, profile_alone=lambda source: profile_source(source, record.problem, record.target, passes))


def _movements(first: Profile, second: Profile, calls: tuple[int, int]) -> tuple[tuple[Movement, ...], tuple[Movement, ...]]:
    times: list[Movement] = []
    figures: list[Movement] = []
    left, right = _by_name(first), _by_name(second)
    for name in dict.fromkeys((*left, *right)):
        before, after = left.get(name), right.get(name)
        one, two = (before.time_us / calls[0] if before else 0.0), (after.time_us / calls[1] if after else 0.0)
        if one != two and _has_moved(one, two):
            known = next(figure for figure in (after or before or KernelProfile(name)).figures if figure.name in _STATE)
            times.append(Movement(name, "time_us", one, two, "us", known.source, known.evidence))
        if before is not None and after is not None:
            figures += _figures(name, before, after, calls)
    ordered_times = sorted(times, key=lambda item: -abs(item.after - item.before))
    return tuple(ordered_times), tuple(sorted(figures, key=_size))


def _by_name(profile: Profile) -> dict[str, KernelProfile]:
    device = any(kernel.kind == "kernel" and kernel.launches for kernel in profile.kernels)
    return {bare_name(kernel.name): kernel for kernel in reversed(profile.kernels) if not (device and kernel.kind == "operator")}


_SUMS = frozenset({"bytes", "us"})


def _figures(name: str, before: KernelProfile, after: KernelProfile, calls: tuple[int, int]) -> list[Movement]:
    found = []
    for figure in after.figures:
        other = before.figure(figure.name)
        if other is None or figure.name in _STATE or _tool(other) != _tool(figure) or after.figure(figure.name) is not figure:
            continue
        scale = calls if figure.unit in _SUMS and figure.group in ("time", "traffic") and figure.evidence is Evidence.MEASURED else (1, 1)
        one, two = other.value / scale[0], figure.value / scale[1]
        if _has_moved(one, two):
            found.append(Movement(name, figure.name, one, two, figure.unit, figure.source, figure.evidence))
    return found


def _tool(figure: Figure) -> str:
    return figure.source.split(" ", 1)[0]


def _has_moved(one: float, two: float) -> bool:
    largest = max(abs(one), abs(two))
    return largest > 0 and abs(one - two) / largest > MOVED


def _size(item: Movement) -> tuple[float, str, str]:
    largest = max(abs(item.before), abs(item.after))
    return -abs(item.after - item.before) / largest, item.kernel, item.name


def _total(first: Side, second: Side, calls: tuple[int, int]) -> Movement | None:
    if first.latency_ms and second.latency_ms:
        return Movement("", "latency_ms", first.latency_ms, second.latency_ms, "ms", "evaluator", Evidence.MEASURED)
    sums = [
        sum(kernel.time_us for kernel in _by_name(side.profile).values()) / number
        for side, number in zip((first, second), calls, strict=True)
    ]
    if not all(sums):
        return None
    evidence = next(
        (figure.evidence for kernel in second.profile.kernels for figure in kernel.figures if figure.name in _STATE), Evidence.MEASURED
    )
    return Movement("", "profile_time_us", sums[0], sums[1], "us", "sum of the profile's kernels, per call", evidence)


def _notes(first: Side, second: Side) -> list[str]:
    notes = []
    if first.profile.target != second.profile.target:
        notes.append(
            f"the targets differ ({first.profile.target or 'unknown'}, {second.profile.target or 'unknown'}): times are not comparable"
        )
    if not first.source or not second.source:
        notes.append("a side has no source, so no lines can be named")
    for side in (first, second):
        for item in side.profile.missing:
            notes.append(f"{side.label}: {item.what} not measured ({item.kind.replace('_', ' ')})")
    return list(dict.fromkeys(notes))[:12]


def explanation_json(found: Explanation) -> dict[str, Any]:  # Any: JSON
    """Return it as JSON."""
    data: Mapping[str, Any] = dataclasses.asdict(found)
    return dict(data)


def explanation_text(found: Explanation) -> str:
    """Return it for a person."""
    lines = [f"{found.first} → {found.second}"]
    if found.total is not None:
        lines.append(f"{_moved(found.total)}: {found.total.before / found.total.after:.2f}× ({found.total.source}, {found.total.evidence})")
    whole = sum(item.after - item.before for item in found.by_kernel)
    if found.by_kernel:
        lines.append("\nWhere the time went, per call:")
    for item in found.by_kernel[:12]:
        share = f", {(item.after - item.before) / whole:.0%} of the change" if whole else ""
        lines.append(f"  {item.kernel or 'program'}: {_moved(item)}{share} ({item.evidence})")
    if found.figures:
        lines.append("\nFigures that moved:")
    lines += [f"  {item.kernel}: {_moved(item)} ({item.source}, {item.evidence})" for item in found.figures[:20]]
    if found.changes:
        lines.append("\nChanges of the source:")
    for change, kernels in found.changes[:12]:
        lines.append(f"  {change.place}, touches {', '.join(kernels) or 'no kernel by name'}:")
        lines += [f"    {line}" for line in change.diff.splitlines()[:12]]
    if found.alone:
        lines.append("\nEach change alone:")
    for change, moved in found.alone:
        lines.append(f"  {change.place}: " + ("; ".join(f"{item.kernel} {_moved(item)}" for item in moved[:6]) or "moves nothing"))
    if not found.by_kernel and not found.figures:
        lines.append("\nNo figure moved by more than 5 %.")
    lines += [f"\nnote: {note}" for note in found.notes]
    return "\n".join(lines)


def _moved(item: Movement) -> str:
    ratio = f" ({item.after / item.before:.2f}×)" if item.before and item.after else " (new)" if item.after else " (gone)"
    unit = {"1": "", "us": " µs"}.get(item.unit, f" {item.unit}")
    return f"{item.name.removesuffix('_us').replace('_', ' ')} {item.before:.5g} → {item.after:.5g}{unit}{ratio}"
