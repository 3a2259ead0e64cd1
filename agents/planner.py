"""The plan of a run: what the knowledge base already holds for this problem and its siblings, and which of it becomes a first draft."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tools.types import Evidence, Problem

if TYPE_CHECKING:
    from kb.store import KnowledgeBase
    from kb.types import WinnerMatch

MAX_SIBLINGS = 5
"""Winners of sibling problems that coders are shown."""
MAX_SIMILAR = 10
"""Winners of similar tasks that may be injected."""

_COMPOSERS = ("library", "reference")
"""Coders whose candidates are the problem's own module with parts of it replaced."""
_SPECIALISED = "shape_specialised"


@dataclass(frozen=True)
class Plan:
    """Earlier winners that a run starts from."""

    same: tuple[WinnerMatch, ...] = ()
    """For the very same problem, best first: they are evaluated as they are."""
    siblings: tuple[WinnerMatch, ...] = ()
    """For problems with the same signature, best first: coders may build on them."""
    similar: tuple[WinnerMatch, ...] = ()
    """For tasks whose description is similar, the most similar first: they may be injected as they are."""

    def foreign_drafts(self) -> tuple[WinnerMatch, ...]:
        """Return the winners of other problems that may be right here as they are, the likeliest first.

        What was composed for one problem holds that problem's own module, and what failed at other sizes fails here, too: a coder may still build on those.
        """
        return tuple(match for match in (*self.siblings, *self.similar) if _may_fit_elsewhere(match))


def plan(
    base: KnowledgeBase | None,
    problem: Problem,
    target: str,
    signature: str,
    max_seeds: int,
    threshold: float = 1.0,
    use_siblings: bool = True,
) -> Plan:
    """Look for earlier winners for the target.

    Args:
        base: The knowledge base; None: an empty plan.
        problem: What is to be computed.
        target: Exact target.
        signature: What the problem computes, without sizes; empty: only the very same problem is looked for.
        max_seeds: Most winners of the very same problem to start from.
        threshold: Least similarity of task descriptions, 0 to 1.
        use_siblings: False: only the very same problem counts.
    """
    if base is None or not (max_seeds or use_siblings):
        return Plan()
    found = [
        match
        for match in base.winners(target, signature or None, problem.source_hash, limit=64)
        if match.winner.target == target  # what holds for the family was not measured here
    ]
    same = _best_first(match for match in found if match.match == "problem")
    if not use_siblings:
        return Plan(same=tuple(same[:max_seeds]))
    siblings = _best_first(match for match in found if match.match == "signature")
    similar = [match for match in found if match.match == "similar" and match.score >= threshold]
    return Plan(
        same=tuple(same[:max_seeds]),
        siblings=tuple(siblings[:MAX_SIBLINGS]),
        similar=tuple(
            sorted(similar, key=lambda match: (not _is_measured(match), -match.score, -_fitness(match), match.winner_id))[:MAX_SIMILAR]
        ),
    )


def _best_first(matches: Iterable[WinnerMatch]) -> list[WinnerMatch]:
    unique = {match.winner.candidate_id: match for match in matches}
    return sorted(unique.values(), key=lambda match: (not _is_measured(match), -_fitness(match), match.winner_id))


def _is_measured(match: WinnerMatch) -> bool:
    """True unless a model said how fast it is: that is compared with nothing measured, and comes after it."""
    return bool(match.winner.evaluation.get("evidence", Evidence.MEASURED.value) == Evidence.MEASURED.value)


def _may_fit_elsewhere(match: WinnerMatch) -> bool:
    winner = match.winner
    return winner.provenance.get("coder") not in _COMPOSERS and _SPECIALISED not in winner.evaluation.get("labels", ())


def _fitness(match: WinnerMatch) -> float:
    return min((float(interval["value"]) for interval in match.winner.evaluation.get("speedup", {}).values()), default=0.0)
