"""The host processor: C++ candidates with OpenMP and SIMD, measured here."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path

from tools.targets.base import CompileReport, Limit, LintFinding, TargetInfo
from tools.targets.profile import Profile
from tools.types import Candidate, Evidence, Problem


class CpuTarget:
    """The machine that this process runs on."""

    def __init__(self, profile: Profile) -> None:
        self._profile = profile

    def describe(self) -> TargetInfo:
        """Say which processor this is; its evidence is always `measured`."""
        features = cpu_features()
        level = next((name for name in ("avx512f", "avx2") if name in features), "no AVX2")
        return TargetInfo(
            name=self._profile.target,
            family="cpu",
            torch_device="cpu",
            evidence=Evidence.MEASURED,
            summary=f"{cpu_model()}, {usable_cores()} usable cores, {level}",
            document=self._profile.document,
        )

    def limits(self) -> Mapping[str, Limit]:
        """Return the instruction set's numbers; the machine's own (cores, caches) are not in documents."""
        return self._profile.limits

    def lint(self, candidate: Candidate) -> Sequence[LintFinding]:
        """Return the findings of the rules that apply on the host."""
        from tools.lint.engine import lint

        return lint(candidate.source, target=self._profile.target, limits=self._profile.limits)

    def compile(
        self, candidate: Candidate, problem: Problem | None = None, *, timeout_s: float = 120.0, cache: Path | None = None
    ) -> CompileReport:
        """Say that there is nothing to compile ahead: a candidate's C++ is built when its module is loaded, by the evaluator's worker."""
        reason = "C++ sources are built by the evaluator when the candidate is loaded"
        return CompileReport(self._profile.target, "nothing_to_compile", warnings=(reason,))


def usable_cores() -> int:
    """Return how many cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


def cpu_model() -> str:
    """Return the processor's name as the system states it."""
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def cpu_features() -> frozenset[str]:
    """Return the processor's feature flags (Linux); empty where the system does not tell."""
    return frozenset(_cpuinfo("flags").split())


def _cpuinfo(key: str) -> str:
    path = Path("/proc/cpuinfo")
    if not path.exists():
        return ""
    for line in path.read_text(encoding="utf-8").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return ""
