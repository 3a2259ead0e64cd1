"""What rules find: causes, and the diagnosis that orders them."""

from __future__ import annotations

from dataclasses import dataclass

from tools.types import Evidence


@dataclass(frozen=True)
class Cause:
    """One thing that costs time, with the figures that show it."""

    name: str
    claim: str
    evidence: tuple[str, ...]
    """Figures as text, each with its source."""
    weight: float
    """Share of the whole time that it may account for, 0 to 1, by a rule of thumb; it orders causes."""
    kernel: str = ""
    questions: tuple[str, ...] = ()
    """For the search in the knowledge base."""
    seen_by: Evidence = Evidence.MEASURED


@dataclass(frozen=True)
class ProfileDiagnosis:
    """What stands in the way, by rules."""

    dominant: Cause | None
    deferred: tuple[Cause, ...]
    """The other causes, heaviest first: for later, since removing the dominant one changes the picture."""
    cannot_tell: tuple[str, ...]
    """Causes whose figures are missing for every kernel: neither found nor excluded."""
    questions: tuple[str, ...]

    @property
    def causes(self) -> tuple[Cause, ...]:
        """Return all causes, heaviest first."""
        return (*((self.dominant,) if self.dominant else ()), *self.deferred)
