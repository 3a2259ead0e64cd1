"""Proton's tree (`*.hatchet`): a list of the root node and the devices; nodes hold `frame`, `metrics` and `children`.

Leaves with a time are kernels, the nodes above them scopes. With the instrumentation backend the leaves are regions inside a kernel and hold cycles.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from tools.profiling.errors import ReportError
from tools.profiling.source import Report
from tools.profiling.tally import MAX_KERNELS, Observation, Tally
from tools.profiling.types import Figure, Missing, PassRecord, Profile, Region

MAX_CHARACTERS = 128 * 1024 * 1024
"""A tree is read whole; a bigger one comes from a deep Python context and should be made with `context="shadow"`."""
MAX_REGIONS = 2000
_TIME = re.compile(r"(?:.* )?time \((?P<unit>[nuµm]?s)\)")
_SCALE = {"ns": 1e-3, "us": 1.0, "µs": 1.0, "ms": 1e3, "s": 1e6}
_TREE = re.compile(r'\A\s*\[\s*\{.*?"(?:frame|children|metrics)"\s*:', re.DOTALL)
_FLOPS = re.compile(r"flops\d*")


class ProtonTree:
    """The JSON of `proton.finalize()` with `data="tree"`."""

    name = "proton_tree"

    def accepts(self, head: str) -> bool:
        """Return whether it is such a tree."""
        return bool(_TREE.match(head[:65536])) and ('"frame"' in head or '"metrics"' in head) and '"ph"' not in head[:2000]

    def read(self, report: Report) -> Profile:
        """Return the profile."""
        text = _whole(report)
        try:
            roots = json.loads(text)
        except (ValueError, RecursionError) as error:
            kind: Any = "truncated" if text.rstrip()[-1:] != "]" or report.is_cut else "malformed"
            raise ReportError(report.name, kind, f"the tree is not whole JSON: {error}") from error
        if not isinstance(roots, list) or not all(isinstance(item, Mapping) for item in roots):
            raise ReportError(
                report.name, "foreign_version", "a list of nodes was expected; this may be the output of another version of Proton"
            )
        return _tree(report.name, roots)


def _whole(report: Report) -> str:
    parts, size = [], 0
    for piece in report.chunks():
        size += len(piece)
        if size > MAX_CHARACTERS:
            raise ReportError(
                report.name, "too_large", f'the tree has more than {MAX_CHARACTERS:,} characters; record it with context="shadow"'
            )
        parts.append(piece)
    return "".join(parts)


def _tree(name: str, roots: list[Mapping[str, Any]]) -> Profile:  # Any: JSON
    tally = Tally()
    scopes: dict[tuple[str, ...], float] = {}
    cycles: dict[tuple[str, ...], float] = {}
    nodes = [item for item in roots if "frame" in item or "children" in item]
    devices = next((item for item in roots if "frame" not in item and "children" not in item), {})
    skipped = 0
    for path, node in _walk(nodes):
        metrics = node.get("metrics")
        metrics = metrics if isinstance(metrics, Mapping) else {}
        length, spent = _time(metrics), _number(metrics.get("cycles"))
        children = node.get("children") or []
        if spent and path:
            cycles[path] = cycles.get(path, 0.0) + spent
        if length is None or not path:
            continue
        if any(_time(child.get("metrics") or {}) is not None for child in children if isinstance(child, Mapping)):
            length = None  # an inclusive time would count its children twice
            continue
        if len(scopes) < MAX_REGIONS:
            for depth in range(1, len(path)):
                scopes[path[:depth]] = scopes.get(path[:depth], 0.0) + length
        else:
            skipped += 1
        _add_kernel(tally, path[-1], length, metrics)
    missing = [*tally.missing()]
    if skipped:
        missing.append(Missing("scopes", "bounded", f"{skipped:,} scopes beyond {MAX_REGIONS:,} were left out"))
    if not len(tally) and not cycles:
        raise ReportError(name, "empty", "the tree holds no kernel: none was launched between start and finalize, or the backend saw none")
    device, target = _device(devices)
    return Profile(
        target=target,
        device=device,
        passes=(PassRecord("proton", "proton, tree", "collected", detail=name),),
        kernels=tally.kernels(),
        regions=(*_scopes(scopes), *_regions(cycles)),
        missing=tuple(missing),
    )


def _walk(nodes: list[Mapping[str, Any]]) -> Iterator[tuple[tuple[str, ...], Mapping[str, Any]]]:  # Any: JSON
    """Yield each node with its path below the root; without recursion, since trees may be deep."""
    stack: list[tuple[tuple[str, ...], Any]] = [((), node) for node in reversed(nodes)]
    while stack:
        path, node = stack.pop()
        if not isinstance(node, Mapping):
            continue
        frame = node.get("frame")
        name = str(frame.get("name", "?")) if isinstance(frame, Mapping) else "?"
        here = path if not path and name == "ROOT" else (*path, name)
        yield here, node
        children = node.get("children")
        stack.extend((here, child) for child in reversed(children if isinstance(children, list) else []))


def _add_kernel(tally: Tally, name: str, length: float, metrics: Mapping[str, Any]) -> None:  # Any: JSON
    observed = [Observation("device_time_us", length, "us", "proton time", "time")]
    for key, value in metrics.items():
        found = _number(value)
        if found is None or _TIME.fullmatch(key) or key in ("count", "device_id", "device_type"):
            continue
        if key == "bytes":
            observed.append(Observation("stated_bytes", found, "bytes", "proton launch metadata", "traffic"))
        elif _FLOPS.fullmatch(key):
            observed.append(Observation(f"stated_{key}", found, "1", "proton launch metadata", "rate"))
        else:
            observed.append(Observation(key, found, "1", f"proton {key}"))
    tally.add(name, observed, launches=int(_number(metrics.get("count")) or 1), weight=length)


def _scopes(scopes: Mapping[tuple[str, ...], float]) -> Iterator[Region]:
    for path, length in scopes.items():
        yield Region(path[-1], path, "", Figure("time_us", length, "us", "proton scope: sum of its kernels", "time"))


def _regions(cycles: Mapping[tuple[str, ...], float]) -> Iterator[Region]:
    for path, spent in list(cycles.items())[:MAX_KERNELS]:
        kernel = path[-2] if len(path) > 1 else ""
        siblings = sum(value for other, value in cycles.items() if other[:-1] == path[:-1])
        yield Region(
            path[-1], path, kernel, Figure("cycles", spent, "1", "proton instrumentation", "time"), spent / siblings if siblings else None
        )


def _time(metrics: Any) -> float | None:  # Any: JSON
    if not isinstance(metrics, Mapping):
        return None
    for key, value in metrics.items():
        match = _TIME.fullmatch(key)
        found = _number(value)
        if match and found is not None and found > 0 and not key.startswith(("avg", "cpu")):
            return found * _SCALE[match["unit"]]
    return None


def _device(devices: Mapping[str, Any]) -> tuple[str, str]:  # Any: JSON
    for vendor, numbered in devices.items():
        first = next(iter(numbered.values()), None) if isinstance(numbered, Mapping) else None
        arch = str(first.get("arch", "")) if isinstance(first, Mapping) else ""
        if vendor == "CUDA" and arch.isdigit():
            return f"{vendor} {arch}", f"cuda:sm_{arch}"
        if vendor == "HIP" and arch:
            return f"{vendor} {arch}", f"rocm:{arch.split(':')[0]}"
    return "", ""


def _number(value: Any) -> float | None:  # Any: JSON
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None
