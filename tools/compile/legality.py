"""Judge whether the compiler of a chip known from documents would take a candidate, by public rules with the launches known. There is no public compiler to ask: the evidence is `simulated`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from tools.compile.bindings import bindings
from tools.compile.job import Job
from tools.compile.server import CompileServer
from tools.compile.workload import work_of
from tools.lint.engine import lint
from tools.lint.rules.mtia import crowded_wave
from tools.targets.base import CompileReport, LaunchRecord, LintFinding
from tools.targets.mtia_model import estimate
from tools.targets.profile import Profile, survey_profiles
from tools.types import Candidate, Evidence, Problem

STAND_IN = "cuda:sm_90"
"""The GPU on which host code believes to run while its launches are recorded; nothing is compiled for it."""


def judge_candidate(
    candidate: Candidate, problem: Problem | None, profile: Profile, *, timeout_s: float, cache: Path | None
) -> CompileReport:
    """Record the candidate's launches and judge each; see `SimulatedTarget.compile`."""
    if candidate.language != "triton":
        reason = f"its kernels are written in {candidate.language}; only Triton is judged"
        return CompileReport(profile.target, "nothing_to_compile", warnings=(reason,), evidence=Evidence.SIMULATED)
    with CompileServer(cache) as server:
        recorded = server.compile(recording_job(candidate.source, problem=problem.source if problem else None), timeout_s=timeout_s)
    return judge(candidate.source, recorded, profile)


def recording_job(source: str, *, problem: str | None = None, example: Mapping[str, Any] | None = None) -> Job:  # Any: JSON arguments
    """Return the job that records a source's launches."""
    limits = {name: limit.value for name, limit in survey_profiles()[0][STAND_IN].limits.items()}
    return Job(source, STAND_IN, limits, example=example, problem=problem, record_only=True)


def judge(source: str, recorded: CompileReport, profile: Profile) -> CompileReport:
    """Turn recorded launches into a report for a simulated target: `compiled` if no rule with severity error fires on any launch."""
    base = dataclasses.replace(recorded, target=profile.target, evidence=Evidence.SIMULATED, kernels=())
    if recorded.status in ("error", "timeout", "nothing_to_compile"):
        return base
    findings = list(dict.fromkeys(finding for launch in recorded.launches for finding in judge_launch(source, launch, profile)))
    errors = [str(finding) for finding in findings if finding.severity == "error"]
    others = tuple(str(finding) for finding in findings if finding.severity != "error")
    works = [work_of(source, launch) for launch in recorded.launches] if not errors else []
    estimates = tuple(estimate(work, profile.limits) for work in works if work is not None)
    status: Literal["compiled", "error"] = "error" if errors else "compiled"
    return dataclasses.replace(base, status=status, error="\n".join(errors), warnings=others, estimates=estimates)


def judge_launch(source: str, launch: LaunchRecord, profile: Profile) -> Iterator[LintFinding]:
    """Yield what the rules say about a source when one kernel is launched as recorded."""
    yield from lint(source, target=profile.target, limits=profile.limits, bindings={launch.kernel: bindings(launch)}, rules=profile.rules)
    elements = int(profile.limits["processing_elements"].value)
    if crowded_wave(launch.programs, elements):
        message = f"{launch.kernel}: {launch.programs} programs on {elements} processing elements leave the last wave nearly empty"
        fix = "choose the block so that the grid is a multiple of the processing elements"
        yield LintFinding(
            "M14", 0, "performance", message, fix, "Programs run in waves of one per processing element.", "guide/lint-rules.md#m14"
        )
