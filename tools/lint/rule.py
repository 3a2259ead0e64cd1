"""What a rule is, and the decorator that registers one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tools.targets.base import Severity

if TYPE_CHECKING:
    from tools.lint.inference import Call, Trace
    from tools.lint.module import Module
    from tools.targets.base import Limit


@dataclass(frozen=True)
class Context:
    """What a rule may look at besides the module."""

    target: str
    """Exact target name, for example `cuda:sm_90`."""
    lineage: tuple[str, ...]
    """What the target inherits, for example `cuda:sm_90, sm_90, nvidia, generic`."""
    limits: Mapping[str, Limit]
    traces: tuple[Trace, ...] = ()
    """One per kernel, in source order."""

    def calls(self, *names: str) -> Iterator[Call]:
        """Yield the calls of some names over all kernels."""
        for trace in self.traces:
            yield from trace.named(*names)

    def limit(self, name: str) -> float | None:
        """Return the value of a limit, None where the chip's document does not state it."""
        return self.limits[name].value if name in self.limits else None


@dataclass(frozen=True)
class Violation:
    """Where a rule fired, with the message that names what is in the source."""

    line: int
    message: str
    severity: Severity | None = None
    """Overrides the rule's severity for this place; None keeps it."""
    fix: str | None = None
    """Overrides the rule's fix for this place; None keeps it."""


Check = Callable[["Module", Context], Iterator[Violation]]


@dataclass(frozen=True)
class Rule:
    """One rule with its reasons."""

    rule: str
    """Id, for example `L02`."""
    title: str
    """The rule as a sentence."""
    severity: Severity
    targets: tuple[str, ...]
    """Families or exact targets that it holds for; `generic` for all."""
    why: str
    fix: str
    document: str
    """The knowledge behind it: path below `docs/`, with `#heading` where there is one."""
    check: Check

    def holds_for(self, lineage: tuple[str, ...]) -> bool:
        """Tell whether the rule concerns a target."""
        return any(name in self.targets for name in lineage)


RULES: dict[str, Rule] = {}
"""Every registered rule by id. Filled when `tools.lint.rules` is imported."""


def rule(
    name: str,
    title: str,
    *,
    severity: Severity,
    why: str,
    fix: str,
    targets: tuple[str, ...] = ("generic",),
    document: str = "guide/targets.md",
) -> Callable[[Check], Check]:
    """Register a check under an id."""

    def register(check: Check) -> Check:
        if name in RULES:
            raise ValueError(f"rule {name!r} is defined twice")
        RULES[name] = Rule(name, title, severity, targets, why, fix, document, check)
        return check

    return register
