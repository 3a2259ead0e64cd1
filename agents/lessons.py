"""What the measured steps of a run teach: effects of single changes, lessons in a model's words that rest on them, and evidence for or against earlier lessons.

Every number here comes from evaluations. A model may say what a step means; it cannot make a step, and a lesson without one is dropped.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agents.reflection import Published, strongest_baseline
from agents.runs.records import NodeRecord
from agents.runs.store import RunStore
from kb.errors import UnknownNameError
from kb.types import Confirmation, Lesson
from tools.types import Evaluation, Evidence, Interval, Problem, Status

if TYPE_CHECKING:
    from kb.store import KnowledgeBase

MAX_NODES = 512
"""Latest nodes of a run that are looked at."""
MAX_STEPS = 12
MAX_KNOWN = 1000
"""Earlier lessons of a target that are looked at."""
MAX_LESSONS = 3
MAX_CLAIM = 400
PRECONDITIONS = ("anchor", "dtype", "shape", "layout", "bound_by", "because", "not_when")
"""What a model may state of when a lesson holds; target, problem and precision class are known and not asked."""
COMPARED_WITH = "compared_with"
PARENT = "the same kernel before the change"


@dataclass(frozen=True)
class RunFacts:
    """What all lessons of a run have in common."""

    problem: Problem
    target: str
    """Exact target."""
    signature: str
    """What the problem computes; empty: unknown."""
    versions: Mapping[str, str]


@dataclass(frozen=True)
class MeasuredStep:
    """One change that was measured on both sides, in the same run on the same target."""

    parent: NodeRecord
    child: NodeRecord
    effect: Interval
    """Latency of the parent over that of the child, with what both intervals allow."""
    is_certain: bool
    """The interval excludes 1.0, and the child was measured again at full effort if it is faster: a maximum over noisy measurements is biased upwards."""

    @property
    def evidence(self) -> tuple[str, ...]:
        """Ids of the evaluations behind it."""
        return tuple(
            dict.fromkeys(
                item for node in (self.child, self.parent) for item in (node.candidate.candidate_id, node.evaluation.receipt) if item
            )
        )


def effect_between(parent: Evaluation, child: Evaluation) -> Interval | None:
    """Return how much faster the child is than its parent, over a baseline that both were timed against; None if there is none, or one of them was not measured.

    The interval holds every ratio that the two intervals allow: wider than a paired measurement's, never narrower.
    """
    common = [name for name in ("compiled", "eager", *sorted(parent.speedup)) if name in parent.speedup and name in child.speedup]
    if parent.status is not Status.PASSED or child.status is not Status.PASSED or not common or not _are_measured(parent, child):
        return None
    before, after = parent.speedup[common[0]], child.speedup[common[0]]
    if min(before.low, after.low) <= 0:
        return None
    return Interval(after.value / before.value, after.low / before.high, after.high / before.low)


def _are_measured(*evaluations: Evaluation) -> bool:
    return all(item.evidence is Evidence.MEASURED for item in evaluations)


def measured_steps(store: RunStore, run_id: str) -> list[MeasuredStep]:
    """Return the steps of a run that were measured on both sides, those with the largest certain effects first."""
    total = store.num_nodes(run_id)
    nodes = {node.node_id: node for node in store.nodes(run_id, since=max(0, total - MAX_NODES))}
    steps = []
    for child in nodes.values():
        for parent in (nodes[name] for name in child.parents if name in nodes):
            finals = [store.evaluation(run_id, node.source_hash, "final") for node in (parent, child)]
            evaluations = [final or node.evaluation for final, node in zip(finals, (parent, child), strict=True)]
            effect = effect_between(*evaluations)
            if effect is not None and len(child.parents) == 1:
                is_certain = effect.high < 1.0 or (effect.low > 1.0 and finals[1] is not None)
                known = [dataclasses.replace(node, evaluation=item) for node, item in zip((parent, child), evaluations, strict=True)]
                steps.append(MeasuredStep(known[0], known[1], effect, is_certain))
    return sorted(steps, key=lambda step: (not step.is_certain, -abs(math.log(step.effect.value)), step.child.step))[:MAX_STEPS]


def cited_lessons(base: KnowledgeBase, chunk_ids: Sequence[str]) -> set[str]:
    """Return the ids of the lessons that chunks come from."""
    found = set()
    for chunk_id in chunk_ids:
        try:
            source = base.get_document(base.get_chunk(chunk_id).document_id).source
        except UnknownNameError:
            continue
        if source.startswith("lesson:"):
            found.add(source.removeprefix("lesson:"))
    return found


def holds_for(lesson: Lesson, target: str, signature: str, precision_class: str) -> bool:
    """Return whether a measurement here can speak for or against a lesson: it states no condition that is not met."""
    conditions = lesson.preconditions
    return (
        conditions.get("target", target) == target
        and conditions.get("anchor", signature) == signature
        and conditions.get("precision_class", precision_class) == precision_class
    )


def confirmations_by_rules(
    base: KnowledgeBase,
    about: RunFacts,
    steps: Sequence[MeasuredStep],
    best: Published | None,
    lineage: Sequence[NodeRecord],
) -> list[tuple[str, Confirmation]]:
    """Return what the run says for or against lessons that its candidates were built from, by lesson id.

    A lesson about a change is tested by a step whose child cites it and whose parent does not; one about a whole kernel by the published candidate, if it
    or an ancestor cites it. Whether a measurement speaks for or against is left to its interval.
    """
    lessons = {match.lesson_id: match.lesson for match in base.lessons(about.target, limit=MAX_KNOWN)}
    found: list[tuple[str, Confirmation]] = []
    for step in steps:
        for lesson_id in cited_lessons(base, step.child.chunk_ids) - cited_lessons(base, step.parent.chunk_ids):
            lesson = lessons.get(lesson_id)
            if lesson is None or lesson.preconditions.get(COMPARED_WITH) != PARENT:
                continue
            if step.is_certain and holds_for(lesson, about.target, about.signature, step.child.evaluation.precision_class):
                found.append((lesson_id, confirmation_of(step, about)))
    if best is not None and best.is_remeasured and _are_measured(best.evaluation) and (strongest := strongest_baseline(best.evaluation)):
        interval = strongest[1]
        evidence = best.evaluation.receipt or best.node.candidate.candidate_id
        for lesson_id in sorted(cited_lessons(base, [chunk_id for node in lineage for chunk_id in node.chunk_ids])):
            lesson = lessons.get(lesson_id)
            if lesson is None or COMPARED_WITH in lesson.preconditions or interval.low <= 0:
                continue
            if holds_for(lesson, about.target, about.signature, best.evaluation.precision_class):
                found.append(
                    (
                        lesson_id,
                        Confirmation(
                            evidence, about.problem.problem_id, interval.value, interval.low, interval.high, versions=about.versions
                        ),
                    )
                )
    return found


def confirmation_of(step: MeasuredStep, about: RunFacts) -> Confirmation:
    """Return a step as a measurement of what a lesson claims."""
    return Confirmation(
        step.child.evaluation.receipt or step.child.candidate.candidate_id,
        about.problem.problem_id,
        step.effect.value,
        step.effect.low,
        step.effect.high,
        versions=about.versions,
    )


def lessons_of(answer: Mapping[str, Any], steps: Sequence[MeasuredStep], about: RunFacts) -> list[Lesson]:  # Any: JSON
    """Return the lessons in a model's answer that a certain step bears and that state when they hold; the others are dropped.

    The claim is the model's, the effect, its interval and the evidence are the step's.
    """
    given = answer.get("lessons")
    lessons = []
    for data in given if isinstance(given, list) else []:
        step = _step(data, steps)
        claim = " ".join(str(data.get("claim") or "").split())[:MAX_CLAIM] if isinstance(data, Mapping) else ""
        if step is None or not step.is_certain or not claim:
            continue
        stated = data.get("preconditions")
        conditions = {
            key: " ".join(stated[key].split())[:MAX_CLAIM]
            for key in PRECONDITIONS
            if isinstance(stated, Mapping) and isinstance(stated.get(key), str) and stated[key].strip()
        }
        if not conditions:
            continue  # what is said to hold always was seen in one place
        conditions |= {"target": about.target, COMPARED_WITH: PARENT, "precision_class": step.child.evaluation.precision_class}
        if about.signature:
            conditions["anchor"] = about.signature
        lessons.append(
            Lesson(
                claim=f"{claim.rstrip('.')}. Measured on {about.problem.name} for {about.target}: {step.effect.value:.2f} times the speed before the change.",
                preconditions=conditions,
                effect=step.effect.value,
                effect_low=step.effect.low,
                effect_high=step.effect.high,
                evidence=step.evidence,
                target=about.target,
                problem_id=about.problem.problem_id,
                versions=about.versions,
            )
        )
    return lessons[:MAX_LESSONS]


def tested_lessons(
    answer: Mapping[str, Any], steps: Sequence[MeasuredStep], offered: Mapping[str, Lesson], about: RunFacts
) -> list[tuple[str, Confirmation]]:  # Any: JSON
    """Return which earlier lessons were tested by which step, as a model recognised it; only those offered to it, and only certain steps."""
    given = answer.get("tested")
    found = []
    for data in given if isinstance(given, list) else []:
        step = _step(data, steps)
        lesson_id = data.get("lesson_id") if isinstance(data, Mapping) else None
        if step is not None and step.is_certain and isinstance(lesson_id, str) and lesson_id in offered:
            found.append((lesson_id, confirmation_of(step, about)))
    return found


def _step(data: object, steps: Sequence[MeasuredStep]) -> MeasuredStep | None:
    number = data.get("step") if isinstance(data, Mapping) else None
    return steps[number - 1] if isinstance(number, int) and not isinstance(number, bool) and 1 <= number <= len(steps) else None
