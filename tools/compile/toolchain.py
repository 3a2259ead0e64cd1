"""Compile candidates and kernel documents for a chip that need not be here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tools.compile.example import launch_arguments
from tools.compile.job import Job
from tools.compile.server import CompileServer
from tools.errors import ProblemError
from tools.targets.base import CompileReport
from tools.targets.profile import Profile
from tools.types import Candidate, Problem

_BLOCK = re.compile(r"^```python kernel[ \t]*\n(.*?)^```", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class KernelDocument:
    """What compiling needs of a kernel document."""

    name: str
    """The kernel's name in the front matter."""
    language: str
    targets: tuple[str, ...]
    source: str
    example: Mapping[str, Any] | None  # Any: YAML as written
    """Arguments of `launch`: the example with the tunables' defaults; None if the document states none."""


def compile_candidate(
    candidate: Candidate, problem: Problem | None, profile: Profile, *, timeout_s: float, cache: Path | None
) -> CompileReport:
    """Compile one candidate in a compiler process of its own; see `Target.compile`."""
    if candidate.language != "triton":
        return CompileReport(
            profile.target,
            "nothing_to_compile",
            warnings=(f"its kernels are written in {candidate.language}; only Triton is compiled here",),
        )
    job = Job(candidate.source, profile.target, numbers(profile), problem=problem.source if problem else None)
    with CompileServer(cache) as server:
        return server.compile(job, timeout_s=timeout_s)


def compile_document(document: KernelDocument, profile: Profile, server: CompileServer, *, timeout_s: float = 120.0) -> CompileReport:
    """Compile one kernel document with its example."""
    if document.language != "triton":
        return CompileReport(
            profile.target, "nothing_to_compile", warnings=(f"written in {document.language}; only Triton is compiled here",)
        )
    return server.compile(Job(document.source, profile.target, numbers(profile), example=document.example), timeout_s=timeout_s)


def numbers(profile: Profile) -> dict[str, float]:
    """Return the bare values of a profile's limits."""
    return {name: limit.value for name, limit in profile.limits.items()}


def read_kernel_document(path: Path) -> KernelDocument | None:
    """Return the kernel document at a path; None if it is another kind of document.

    Raises:
        ProblemError: Its front matter is not YAML, or it has no block of Python.
    """
    text = path.read_text(encoding="utf-8")
    parts = text.split("---\n", 2)
    if len(parts) < 3 or parts[0].strip():
        return None
    try:
        front = yaml.safe_load(parts[1])
    except yaml.YAMLError as error:
        raise ProblemError(f"{path}: front matter is not YAML: {error}") from error
    if not isinstance(front, Mapping) or front.get("kind") != "kernel":
        return None
    block = _BLOCK.search(parts[2])
    if block is None:
        raise ProblemError(f"{path}: no block ```python kernel; see docs/architecture.md")
    example = front.get("example")
    tunables = front.get("tunables") or {}
    return KernelDocument(
        name=str(front.get("kernel", path.stem)),
        language=str(front.get("language", "triton")),
        targets=tuple(front.get("targets", ("generic",))),
        source=block[1],
        example=launch_arguments(example, tunables) if isinstance(example, Mapping) else None,
    )
