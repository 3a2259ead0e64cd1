"""The pass that runs nothing: compile for the target, read the binary and the assembly."""

from __future__ import annotations

import ast
import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tools.compile.job import Job
from tools.compile.server import CompileServer
from tools.profiling.compiled import profile_of_report
from tools.profiling.source_lines import source_lines, stage_of
from tools.profiling.static_mix import static_mix
from tools.profiling.types import Figure, Profile
from tools.targets.base import CompileReport, LaunchRecord, Target
from tools.types import Candidate, Evidence, Problem

_SIZES = {
    "bool": 1,
    "int8": 1,
    "uint8": 1,
    "float8_e4m3fn": 1,
    "float8_e5m2": 1,
    "float16": 2,
    "bfloat16": 2,
    "int16": 2,
    "float64": 8,
    "int64": 8,
}
_STAGES = {"cuda": "ptx", "rocm": "amdgcn"}


def static_profile(
    candidate: Candidate,
    problem: Problem | None,
    target: Target,
    *,
    example: Mapping[str, Any] | None = None,
    timeout_s: float = 120.0,
    cache: Path | None = None,
) -> Profile:  # Any: JSON
    """Return what compiling shows: resources, instruction mix, bytes of the tensors. On `mtia` the model's estimates; elsewhere nothing can be seen and the record says so.

    Args:
        problem: Its inputs launch the candidate's kernels. None: the source defines `launch`, and `example` (or its own `EXAMPLE`) gives the arguments.
    """
    name = target.describe().name
    stage = _STAGES.get(name.partition(":")[0])
    if stage is None:
        return profile_of_report(target.compile(candidate, problem, timeout_s=timeout_s, cache=cache))
    limits = {key: limit.value for key, limit in target.limits().items()}
    job = Job(candidate.source, name, limits, example=example, problem=problem.source if problem else None, emit=stage)
    with CompileServer(cache) as server:
        report = server.compile(job, timeout_s=timeout_s)
    return with_static_mix(profile_of_report(report), report, candidate.source)


def with_static_mix(profile: Profile, report: CompileReport, source: str) -> Profile:
    """Return a compiled profile with the instruction mix of the emitted texts, the number of dots in the source, and the bytes of each launch's tensors."""
    texts = {(item.kernel, item.specialisation): item.text for item in report.emitted}
    dots = dots_by_kernel(source)
    needed = {launch.kernel: tensor_bytes(launch) for launch in report.launches}
    kernels = []
    for resources, kernel in zip(report.kernels, profile.kernels, strict=False):
        figures, lines = list(kernel.figures), kernel.lines
        text = texts.get((resources.kernel, resources.specialisation))
        if text is not None:
            figures += static_mix(text)
            lines = source_lines({stage_of(text): text}, source)
        if kernel.name in dots:
            figures.append(Figure("static_dots", float(dots[kernel.name]), "1", "source: calls of dot", "instruction", Evidence.COMPILED))
        if kernel.name in needed:
            figures.append(
                Figure("tensor_bytes", needed[kernel.name], "bytes", "launch record: tensors, once each", "traffic", Evidence.COMPILED)
            )
        kernels.append(dataclasses.replace(kernel, figures=tuple(figures), lines=lines))
    return dataclasses.replace(profile, kernels=(*kernels, *profile.kernels[len(kernels) :]))


def dots_by_kernel(source: str) -> dict[str, int]:
    """Return how many calls of a function named `dot` each function of a source contains; empty if it is not Python."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return {}
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            calls = (item for item in ast.walk(node) if isinstance(item, ast.Call) and isinstance(item.func, ast.Attribute))
            found[node.name] = sum(1 for call in calls if isinstance(call.func, ast.Attribute) and call.func.attr == "dot")
    return found


def tensor_bytes(launch: LaunchRecord) -> float:
    """Return the bytes of a launch's tensors, each once."""
    total = 0.0
    stack: list[Any] = list(launch.arguments.values())
    while stack:
        value = stack.pop()
        if isinstance(value, Mapping) and "dtype" in value and "shape" in value:
            total += math.prod(value["shape"]) * _SIZES.get(str(value["dtype"]), 4)
        elif isinstance(value, list | tuple):
            stack.extend(value)
    return total
