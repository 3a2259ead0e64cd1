"""Chips known from public documents alone: legality by rules, time by a model. Everything said about them is simulated; there is no compiler or device here.

`mtia:*` follows the rules for Meta's Triton. `sim:*` is any chip of the same kind (many cores with a software-managed memory each, DMA, a matrix and a vector unit),
described by a document: its limits, and under `rules:` those rules of the linter's catalogue that hold for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from tools.targets.base import FAMILIES, CompileReport, Limit, LintFinding, TargetInfo
from tools.targets.profile import Profile
from tools.types import Candidate, Evidence, Problem


class SimulatedTarget:
    """One chip, for example `mtia:2i`. Its evidence is always `simulated`."""

    def __init__(self, profile: Profile) -> None:
        self._profile = profile

    def describe(self) -> TargetInfo:
        """Say which chip it is; nothing about it can be measured or compiled here."""
        toolchain = self._profile.target.partition(":")[0]
        return TargetInfo(
            name=self._profile.target,
            family=FAMILIES.get(toolchain, toolchain),
            torch_device=None,
            evidence=Evidence.SIMULATED,
            summary=f"{self._profile.title}; simulated from public documents",
            document=self._profile.document,
        )

    def limits(self) -> Mapping[str, Limit]:
        """Return the chip's numbers from its document, the model's assumptions among them (trust `unverified`)."""
        return self._profile.limits

    def lint(self, candidate: Candidate) -> Sequence[LintFinding]:
        """Return what the rules of Triton and of the chip say, as far as the source alone proves it."""
        from tools.lint.engine import lint

        return lint(candidate.source, target=self._profile.target, limits=self._profile.limits, rules=self._profile.rules)

    def compile(
        self, candidate: Candidate, problem: Problem | None = None, *, timeout_s: float = 120.0, cache: Path | None = None
    ) -> CompileReport:
        """Judge legality with the problem's launches known; `compiled` means that no public rule speaks against it.

        The launches are recorded while the kernels are compiled for a GPU that stands in; the report's evidence is `simulated`.
        """
        from tools.compile.legality import judge_candidate

        return judge_candidate(candidate, problem, self._profile, timeout_s=timeout_s, cache=cache)
