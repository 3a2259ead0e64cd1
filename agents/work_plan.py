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
_FUSE = "fuse as much as one kernel can hold, with everything pointwise in the kernel of its neighbour"
STAGES = ("draft", "improve")
MAX_ITEMS = 5
MAX_REGION = 200
MAX_TEXT = 800
"""Longest approach; the planner is told."""
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
    stage: str = ""
    """`draft`: for sessions that start from nothing; `improve`: for those that build on a candidate; empty: for both."""

    def text(self) -> str:
        """Return it as a coder is told."""
        return f"{self.region}: {self.approach}".rstrip(": ")


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
    whole = WorkItem(WHOLE, _FUSE, target)
    if len(heavy) < 2:
        return budgeted((whole,), evaluations)
    share = (1 - _WHOLE_SHARE) / len(heavy)
    parts = [
        WorkItem(
            f"operator {number} of {len(heavy)}: {name}",
            "give it the best kernel, with the pointwise work around it fused, and keep the rest as the last attempt has it",
            target,
            share,
            stage="improve",
        )
        for number, name in enumerate(heavy, start=1)
    ]
    return budgeted((WorkItem(whole.region, whole.approach, target, _WHOLE_SHARE), *parts), evaluations)


def plan_of(answer: Mapping[str, Any], targets: Sequence[str], evaluations: int | None) -> tuple[WorkItem, ...]:  # Any: JSON
    """Return the plan in a model's answer; empty where it is of no use.

    Items without a region, for another target or with a share that is none are left out; the shares of the others are scaled to 1. A plan without any item that
    a first draft could follow is of no use either.
    """
    given = answer.get("items")
    if not isinstance(given, list):
        return ()
    items = [item for item in (_item(data, targets) for data in given) if item is not None][:MAX_ITEMS]
    return budgeted(tuple(items), evaluations) if any(item.stage != "improve" for item in items) else ()


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
            item.stage,
        )
        for item in items
    )


def is_plain(items: Sequence[WorkItem]) -> bool:
    """Return whether a plan says nothing that goes without saying: none, or the one item by rules for the whole problem."""
    return not items or [(item.region, item.approach) for item in items] == [(WHOLE, _FUSE)]


def next_item(items: Sequence[WorkItem], given: Sequence[int], stage: str = "") -> int | None:
    """Return which item the next session works on: the one that has had least of its share, and while others are left none that has used its evaluations.

    A design is drafted once: what follows from it are improvements, and another draft of it would be the same kernel again.

    Args:
        items: The plan, not empty.
        given: Evaluations that each item's sessions have had so far.
        stage: `draft` or `improve`: what kind of session it is; empty: any item will do.

    Returns:
        The item's position; None if the plan has nothing for sessions of this stage.
    """
    fitting = [index for index, item in enumerate(items) if not (stage and item.stage) or item.stage == stage]
    if stage == "draft":
        fitting = [index for index in fitting if not given[index]]
    open_items = [index for index in fitting if (most := items[index].evaluations) is None or given[index] < most]
    return min(open_items or fitting, key=lambda index: (given[index] / items[index].share, index), default=None)


def _item(data: object, targets: Sequence[str]) -> WorkItem | None:
    if not isinstance(data, Mapping):
        return None
    region, approach, share = data.get("region"), data.get("approach", ""), data.get("share", 1.0)
    target = data.get("target") or targets[0]
    if not isinstance(region, str) or not region.strip() or not isinstance(approach, str) or target not in targets:
        return None
    if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 < share <= 100:
        return None
    stage = data.get("stage")
    return WorkItem(
        " ".join(region.split())[:MAX_REGION],
        " ".join(approach.split())[:MAX_TEXT],
        str(target),
        float(share),
        stage=stage if stage in STAGES else "",
    )
