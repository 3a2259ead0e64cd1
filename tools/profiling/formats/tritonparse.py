"""Traces of tritonparse (`*.ndjson`, compressed or not): a line of JSON for each compilation, with the texts of all stages, and for each launch.

Raw traces and parsed ones (`*_mapped.ndjson.gz`) alike. Nothing in them was timed on a device: figures are of what was compiled, and launches are counted.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from tools.profiling.errors import ReportError
from tools.profiling.source import Report
from tools.profiling.source_lines import STAGES, source_lines
from tools.profiling.static_mix import static_mix
from tools.profiling.tally import MAX_KERNELS
from tools.profiling.types import Figure, Group, KernelProfile, Missing, PassRecord, Profile, SourceLine
from tools.types import Evidence

_METADATA: tuple[tuple[str, str, str, Group], ...] = (
    ("shared", "shared_per_block_bytes", "bytes", "resource"),
    ("num_warps", "num_warps", "1", "resource"),
    ("num_stages", "num_stages", "1", "resource"),
    ("num_ctas", "num_ctas", "1", "resource"),
    ("global_scratch_size", "scratch_bytes", "bytes", "resource"),
)


class TritonParse:
    """What `tritonparse.structured_logging` writes and `tritonparse.parse` makes of it."""

    name = "tritonparse"

    def accepts(self, head: str) -> bool:
        """Return whether its first line is such an event."""
        start = head.lstrip()[:400]
        return start.startswith("{") and '"event_type"' in start and any(f'"{kind}"' in start for kind in ("compilation", "launch", "launch_diff", "ir_analysis"))  # fmt: skip

    def read(self, report: Report) -> Profile:
        """Return the profile."""
        trace = _Trace()
        missing: list[Missing] = []
        try:
            for line in report.lines():
                if line.strip():
                    trace.line(line)
        except ReportError as error:
            missing.append(Missing("rest of the trace", error.kind, error.message))
        if trace.damaged or report.is_cut:
            missing.append(Missing("rest of the trace", "truncated", f"{trace.damaged} lines are not whole JSON and were left out"))
        if trace.left_out:
            missing.append(Missing("kernels", "bounded", f"{trace.left_out:,} compilations beyond the first {MAX_KERNELS:,} were left out"))
        if not trace.kernels:
            raise ReportError(report.name, "truncated" if trace.damaged else "empty", "the trace holds no compilation: was tracing begun before the first launch?")  # fmt: skip
        missing.append(
            Missing("running times", "unsupported", "tritonparse looks at compilations and launches, it times nothing on the device")
        )
        version = f"tritonparse (triton {trace.version})" if trace.version else "tritonparse"
        return Profile(
            target=trace.target,
            passes=(PassRecord("tritonparse", version, "partial" if len(missing) > 1 else "collected", detail=report.name),),
            kernels=tuple(trace.finished()),
            missing=tuple(missing),
        )


class _Trace:
    def __init__(self) -> None:
        self.kernels: dict[str, KernelProfile] = {}
        self.damaged = 0
        self.left_out = 0
        self.version = ""
        self.target = ""
        self._launches: Counter[str] = Counter()
        self._programs: dict[str, float] = {}

    def line(self, text: str) -> None:
        try:
            event = json.loads(text)
        except (ValueError, RecursionError):
            self.damaged += 1
            return
        if not isinstance(event, Mapping):
            self.damaged += 1
        elif event.get("event_type") == "compilation":
            self._compilation(event)
        elif event.get("event_type") == "launch":
            self._launch(event)

    def _compilation(self, event: Mapping[str, Any]) -> None:  # Any: JSON
        payload = _mapping(event.get("payload"))
        metadata = _mapping(payload.get("metadata"))
        key = str(metadata.get("hash") or metadata.get("name") or len(self.kernels))
        if key in self.kernels:
            return
        if len(self.kernels) >= MAX_KERNELS:
            self.left_out += 1
            return
        self.version = self.version or str(metadata.get("triton_version") or "")
        self.target = self.target or _target(_mapping(metadata.get("target")))
        texts = dict(_stages(_mapping(payload.get("file_content"))))
        figures = [
            Figure(name, float(value), unit, f"tritonparse metadata {field}", group, Evidence.COMPILED)
            for field, name, unit, group in _METADATA
            if (value := _number(metadata.get(field))) is not None
        ]
        figures += _compile_times(_mapping(metadata.get("times")))
        for stage in ("ptx", "amdgcn"):
            if stage in texts:
                figures += static_mix(texts[stage])
        self.kernels[key] = KernelProfile(
            name=str(metadata.get("name") or "?"), figures=tuple(figures), lines=_lines(texts, _mapping(payload.get("python_source")))
        )

    def _launch(self, event: Mapping[str, Any]) -> None:  # Any: JSON
        body = {**_mapping(event.get("payload")), **event}
        compiled = _mapping(body.get("compilation_metadata"))
        key = str(compiled.get("hash") or compiled.get("name") or body.get("name") or "")
        self._launches[key] += 1
        grid = body.get("grid")
        if isinstance(grid, list) and grid and all(isinstance(item, int) for item in grid):
            self._programs[key] = max(self._programs.get(key, 0.0), float(math.prod(grid)))

    def finished(self) -> Iterator[KernelProfile]:
        """Yield the kernels, those of most instructions first, with the launches that belong to them."""
        found = []
        for key, kernel in self.kernels.items():
            launches = self._launches[key] or self._launches[kernel.name]
            remarks = (f"launched {launches:,} times while it was traced; not timed",) if launches else ()
            figures = list(kernel.figures)
            programs = self._programs.get(key) or self._programs.get(kernel.name)
            if programs:
                figures.append(Figure("programs", programs, "1", "tritonparse grid", "resource", Evidence.COMPILED))
            found.append(KernelProfile(kernel.name, figures=tuple(figures), remarks=remarks, lines=kernel.lines))
        yield from sorted(found, key=lambda kernel: (-(kernel.value("static_instructions") or 0.0), kernel.name))


def _stages(contents: Mapping[str, Any]) -> Iterator[tuple[str, str]]:  # Any: JSON
    for name, text in contents.items():
        stage = str(name).rpartition(".")[2]
        if stage in STAGES and isinstance(text, str):
            yield stage, text


def _lines(texts: Mapping[str, str], source: Mapping[str, Any]) -> tuple[SourceLine, ...]:  # Any: JSON
    first = source.get("start_line")
    return source_lines(
        texts, str(source.get("code") or ""), first_line=first if isinstance(first, int) else 1, file=str(source.get("file_path") or "")
    )


def _compile_times(times: Mapping[str, Any]) -> Iterator[Figure]:  # Any: JSON
    stages = times.get("lowering_stages")
    for item in stages if isinstance(stages, list) else []:
        if isinstance(item, list) and len(item) == 2 and (spent := _number(item[1])) is not None:
            yield Figure(f"compile_{item[0]}_us", spent, "us", "tritonparse metadata times", "other", Evidence.COMPILED)


def _target(target: Mapping[str, Any]) -> str:  # Any: JSON
    backend, arch = target.get("backend"), target.get("arch")
    if backend == "cuda" and arch:
        return f"cuda:sm_{arch}"
    return f"rocm:{arch}" if backend == "hip" and arch else ""


def _mapping(value: Any) -> Mapping[str, Any]:  # Any: JSON
    return value if isinstance(value, Mapping) else {}


def _number(value: Any) -> float | None:  # Any: JSON
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) else None
