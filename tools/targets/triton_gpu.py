"""What every GPU that Triton compiles for has in common; a family adds its name and how to see its device."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tools.targets.base import CompileReport, Limit, LintFinding, TargetInfo
from tools.targets.profile import Profile
from tools.types import Candidate, Evidence, Problem


class TritonGpuTarget:
    """One GPU architecture: compiled on any machine, measured where the device is.

    Args:
        profile: The chip's document.
        family: Family of the chip, for example `nvidia`.
        local_device: Returns architecture and name of this machine's device of the family; None without one.
    """

    def __init__(self, profile: Profile, family: str, local_device: Callable[[], tuple[str, str] | None]) -> None:
        self._profile = profile
        self._family = family
        self._local_device = local_device

    def describe(self) -> TargetInfo:
        """Say which chip it is, and whether one is in this machine (`measured`) or not (`compiled`)."""
        device = self._local_device()
        here = device is not None and device[0] == self._profile.target.partition(":")[2]
        presence = f"present: {device[1]}" if device and here else "no such device here: compiled only"
        return TargetInfo(
            name=self._profile.target,
            family=self._family,
            torch_device="cuda",
            evidence=Evidence.MEASURED if here else Evidence.COMPILED,
            summary=f"{self._profile.title}; {presence}",
            document=self._profile.document,
        )

    def limits(self) -> Mapping[str, Limit]:
        """Return the chip's numbers from its document."""
        return self._profile.limits

    def lint(self, candidate: Candidate) -> Sequence[LintFinding]:
        """Return the findings of the rules that apply to the chip."""
        from tools.lint.engine import lint

        return lint(candidate.source, target=self._profile.target, limits=self._profile.limits)

    def compile(
        self, candidate: Candidate, problem: Problem | None = None, *, timeout_s: float = 120.0, cache: Path | None = None
    ) -> CompileReport:
        """Compile the candidate's kernels as the problem's inputs launch them, and report what they need."""
        from tools.compile.toolchain import compile_candidate

        return compile_candidate(candidate, problem, self._profile, timeout_s=timeout_s, cache=cache)
