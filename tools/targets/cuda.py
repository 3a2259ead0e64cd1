"""NVIDIA GPUs through Triton: compiled on any machine, measured where the device is."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path

from tools.targets.base import CompileReport, Limit, LintFinding, TargetInfo
from tools.targets.profile import Profile
from tools.types import Candidate, Evidence, Problem

DEFAULT_CHIP = "sm_90"
"""What `cuda` means where there is no NVIDIA device."""


class CudaTarget:
    """One NVIDIA architecture, for example `cuda:sm_90`."""

    def __init__(self, profile: Profile) -> None:
        self._profile = profile

    def describe(self) -> TargetInfo:
        """Say which chip it is, and whether one is in this machine (`measured`) or not (`compiled`)."""
        device = local_device()
        here = device is not None and f"cuda:{device[0]}" == self._profile.target
        presence = f"present: {device[1]}" if device and here else "no such device here: compiled only"
        return TargetInfo(
            name=self._profile.target,
            family="nvidia",
            torch_device="cuda",
            evidence=Evidence.MEASURED if here else Evidence.COMPILED,
            summary=f"{self._profile.title}; {presence}",
            document=self._profile.document,
        )

    def limits(self) -> Mapping[str, Limit]:
        """Return the chip's numbers from its document."""
        return self._profile.limits

    def lint(self, candidate: Candidate) -> Sequence[LintFinding]:
        """Return the findings of the rules that apply to NVIDIA targets."""
        from tools.lint.engine import lint

        return lint(candidate.source, target=self._profile.target, limits=self._profile.limits)

    def compile(
        self, candidate: Candidate, problem: Problem | None = None, *, timeout_s: float = 120.0, cache: Path | None = None
    ) -> CompileReport:
        """Compile the candidate's kernels as the problem's inputs launch them, and report what they need."""
        from tools.compile.toolchain import compile_candidate

        return compile_candidate(candidate, problem, self._profile, timeout_s=timeout_s, cache=cache)


@functools.cache
def local_device() -> tuple[str, str] | None:
    """Return architecture (`sm_90`) and name of this machine's NVIDIA device 0; None without one. Does not initialise CUDA if torch is built without it."""
    import torch

    if torch.version.cuda is None or not torch.cuda.is_available():
        return None
    major, minor = torch.cuda.get_device_capability(0)
    return f"sm_{major}{minor}", str(torch.cuda.get_device_name(0))


def local_chip() -> str:
    """Return the architecture that the name `cuda` stands for on this machine."""
    device = local_device()
    return device[0] if device else DEFAULT_CHIP
