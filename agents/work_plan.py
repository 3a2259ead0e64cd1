"""The division of a search: which regions of the problem, for which target, by which approach, with which share of the budget.

Without a model the regions are the heavy operators of the captured problem; a planner model may divide it otherwise. The plan says what to try, the
strategy still chooses what to expand, and neither has a say in what is correct or fast.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

WHOLE = "the whole problem"
MAX_ITEMS = 5
MAX_TEXT = 400
_WHOLE_SHARE = 0.5
"""Of the budget, kept for the problem as one region where there are others."""
_HEAVY = re.compile(
    r"^(mm|bmm|addmm|baddbmm|linear|matmul|einsum|dot|mv|convolution|conv\w*|\w*attention\w*|\w*rnn\w*|lstm|gru|embedding_bag|cumsum|cumprod|sort|topk)"
    r"(?:\.\w+)?$"
)
"""Operators that deserve a kernel of their own; what stands between them is pointwise work, reductions and views that fuse into a neighbour."""


@dataclass(frozen=True)
class WorkItem:
    """One part of the plan."""

    region: str
    """What of the problem it is about."""
    approach: str
    """How to go about it, in a sentence or two."""
    target: str
    """Exact target."""
    share: float = 1.0
    """Of the evaluations, 0 to 1; the shares of a plan add up to 1."""
    evaluations: int | None = None
    """What the share comes to; None without a limit on evaluations."""

    def text(self) -> str:
        """Return it as a coder is told."""
        budget = "" if self.evaluations is None else f" ({self.evaluations} evaluations are planned for it)"
        return f"{self.region}{budget}: {self.approach}".rstrip(": ")


def plan_by_rules(signature: str, target: str, evaluations: int | None = None) -> tuple[WorkItem, ...]:
    """Return one item for the whole problem and, with several heavy operators, one for each of the first of them.

    Args:
        signature: What the problem computes, as `Coder.signature` says it; empty: unknown.
        target: Exact target.
        evaluations: What may be spent; None: no limit.
    """
    names = [
        token.partition("(")[0].partition("×")[0] for token in re.findall(r"[\w.]+(?:\([^)]*\))?(?:×\d+)?", signature.partition(" | ")[0])
    ]
    heavy = [name for name in names if _HEAVY.match(name)][: MAX_ITEMS - 1]
    whole = WorkItem(WHOLE, "fuse as much as one kernel can hold, with everything pointwise in the kernel of its neighbour", target)
    if len(heavy) < 2:
        return budgeted((whole,), evaluations)
    share = (1 - _WHOLE_SHARE) / len(heavy)
    parts = [
        WorkItem(
            f"operator {number} of {len(heavy)}: {name}",
            "give it the best kernel of its own, with the pointwise work around it fused, and leave the rest as it is",
            target,
            share,
        )
        for number, name in enumerate(heavy, start=1)
    ]
    return budgeted((WorkItem(whole.region, whole.approach, target, _WHOLE_SHARE), *parts), evaluations)


def plan_of(answer: Mapping[str, Any], targets: Sequence[str], evaluations: int | None) -> tuple[WorkItem, ...]:  # Any: JSON
    """Return the plan in a model's answer; empty where it is of no use.

    Items without a region, for another target or with a share that is none are left out; the shares of the others are scaled to 1.
    """
    given = answer.get("items")
    if not isinstance(given, list):
        return ()
    items = [item for item in (_item(data, targets) for data in given) if item is not None][:MAX_ITEMS]
    return budgeted(tuple(items), evaluations)


def budgeted(items: Sequence[WorkItem], evaluations: int | None) -> tuple[WorkItem, ...]:
    """Return the items with shares that add up to 1 and the evaluations that they come to, at least one each."""
    total = sum(item.share for item in items)
    return tuple(
        WorkItem(
            item.region,
            item.approach,
            item.target,
            item.share / total,
            None if evaluations is None else max(1, int(item.share / total * evaluations)),
        )
        for item in items
    )


def next_item(items: Sequence[WorkItem], given: Sequence[int]) -> int:
    """Return which item the next session works on: the one that has had least of its share, and while others are left none that has used its evaluations.

    Args:
        items: The plan, not empty.
        given: Evaluations that each item's sessions were allotted so far.
    """
    open_items = [index for index, item in enumerate(items) if item.evaluations is None or given[index] < item.evaluations]
    return min(open_items or range(len(items)), key=lambda index: (given[index] / items[index].share, index))


def _item(data: object, targets: Sequence[str]) -> WorkItem | None:
    if not isinstance(data, Mapping):
        return None
    region, approach, share = data.get("region"), data.get("approach", ""), data.get("share", 1.0)
    target = data.get("target") or targets[0]
    if not isinstance(region, str) or not region.strip() or not isinstance(approach, str) or target not in targets:
        return None
    if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 < share <= 100:
        return None
    return WorkItem(" ".join(region.split())[:MAX_TEXT], " ".join(approach.split())[:MAX_TEXT], str(target), float(share))
