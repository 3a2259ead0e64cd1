"""After the search: what its measured steps teach goes into the knowledge base, as lessons and as evidence for or against earlier ones. Once per run."""

from __future__ import annotations

import dataclasses
import difflib
import logging
from typing import TYPE_CHECKING, Any

from agents.coders.prompt import target_facts
from agents.context import RunContext
from agents.lessons import (
    MAX_KNOWN,
    MeasuredStep,
    RunFacts,
    confirmations_by_rules,
    lessons_of,
    measured_steps,
    tested_lessons,
)
from agents.memory import lineage
from agents.reflection import published
from agents.threads import in_thread
from kb.errors import KnowledgeError
from kb.types import Confirmation, Lesson

if TYPE_CHECKING:
    from kb.store import KnowledgeBase

logger = logging.getLogger(__name__)

MAX_OFFERED = 8
"""Earlier lessons that a model is shown."""
_MAX_DIFF_LINES = 90


async def learn(context: RunContext, signature: str) -> None:
    """Write back what the run's steps teach; a repeat after a kill finds the event and writes nothing again.

    By rules, evaluations of candidates that cite a lesson are evidence for or against it. With a model in the role `reflection` the certain steps also
    become lessons in its words, and it may recognise in them tests of earlier lessons.
    """
    base = context.base
    if base is None or not context.config.write_back or context.store.events(context.run_id, "reflected"):
        return
    run = context.store.run(context.run_id)
    about = RunFacts(context.problem, context.target, signature, {name: str(version) for name, version in run.versions.items()})
    steps = await in_thread(lambda: measured_steps(context.store, context.run_id))
    best = published(context.store, context.run_id, context.config.num_finalists)
    ancestry = lineage(context.store, context.run_id, best.node.node_id) if best is not None else []
    notes: list[str] = []
    new: list[Lesson] = []
    try:
        tested = await in_thread(lambda: confirmations_by_rules(base, about, steps, best, ancestry))
        answer, offered = await _reflect(context, base, about, steps)
        new = lessons_of(answer, steps, about)
        tested += tested_lessons(answer, steps, offered, about)
        lesson_ids, judged = await in_thread(lambda: _write(base, new, tested))
    except KnowledgeError as error:
        logger.warning("lessons could not be written back: %s", error)
        notes.append(str(error))
        lesson_ids, judged = [], []
    context.tell("reflected", steps=len(steps), lessons=lesson_ids, tested=judged, notes=notes)


def _write(
    base: KnowledgeBase, new: list[Lesson], tested: list[tuple[str, Confirmation]]
) -> tuple[list[str], list[dict[str, Any]]]:  # Any: JSON
    lesson_ids = [base.add_lesson(lesson) for lesson in new]
    judged = []
    unique = {(lesson_id, confirmation.evidence_id): confirmation for lesson_id, confirmation in tested}
    for (lesson_id, _), confirmation in unique.items():
        if lesson_id in lesson_ids:
            continue  # what made a lesson is in it already
        after = base.confirm_lesson(lesson_id, confirmation)
        speaks = "for" if confirmation.effect_low > 1.0 else "against" if confirmation.effect_high < 1.0 else "neither"
        judged.append({"lesson_id": lesson_id, "speaks": speaks, "status": after.status, **_plain(confirmation)})
    return lesson_ids, judged


def _plain(confirmation: Confirmation) -> dict[str, Any]:  # Any: JSON
    data = dataclasses.asdict(confirmation)
    del data["versions"]
    return data


async def _reflect(
    context: RunContext, base: KnowledgeBase, about: RunFacts, steps: list[MeasuredStep]
) -> tuple[dict[str, Any], dict[str, Lesson]]:  # Any: JSON
    """Return the answer of the reflection model (empty without one, or without a step that shows anything) and the lessons it was offered."""
    if context.advisers is None or not context.advisers.has("reflection") or not any(step.is_certain for step in steps):
        return {}, {}
    known = await in_thread(lambda: base.lessons(about.target, f"{about.problem.name} {about.signature}"[:2000], limit=MAX_KNOWN))
    offered = {match.lesson_id: match.lesson for match in known[:MAX_OFFERED]}
    told = {
        "Problem": about.problem.source,
        "The target": target_facts(about.target).partition("\n")[0],
        "Steps": "\n\n".join(_told(number, step) for number, step in enumerate(steps, start=1)),
        "Earlier lessons": "\n".join(_offer(lesson_id, lesson) for lesson_id, lesson in offered.items()),
    }
    answer = await context.advisers.reflect(about.problem.name, about.target, told, context.meter, run_id=context.run_id)
    return answer, offered


def _told(number: int, step: MeasuredStep) -> str:
    sure = "certain" if step.is_certain else "not certain: it bears no lesson"
    effect = step.effect
    said = [
        f"Step {number}: effect {effect.value:.3f} (95 % interval {effect.low:.3f} to {effect.high:.3f}; {sure})",
        f"what the parent's writer said: {step.parent.notes or 'nothing'}",
        f"what the child's writer said: {step.child.notes or 'nothing'}",
    ]
    if not step.is_certain:
        return "\n".join(said)
    before, after = step.parent.candidate.source.splitlines(), step.child.candidate.source.splitlines()
    changed = [line for line in difflib.unified_diff(before, after, lineterm="", n=1) if not line.startswith(("---", "+++"))]
    return "\n".join([*said, *_shortened(changed)])


def _shortened(changed: list[str]) -> list[str]:
    """Return a diff of at most `_MAX_DIFF_LINES` lines that keeps as much of what was taken away as of what came."""
    if len(changed) <= _MAX_DIFF_LINES:
        return changed
    taken, came = ([index for index, line in enumerate(changed) if line.startswith(sign)] for sign in "-+")
    half = _MAX_DIFF_LINES // 2
    room = max(half, _MAX_DIFF_LINES - len(came))
    kept = {*taken[:room], *came[: _MAX_DIFF_LINES - min(len(taken), room)]}
    shown = [line for index, line in enumerate(changed) if index in kept]
    return [*shown, f"[… {len(changed) - len(shown)} more lines of the diff …]"]


def _offer(lesson_id: str, lesson: Lesson) -> str:
    stated = "; ".join(f"{key}: {value}" for key, value in lesson.preconditions.items())
    return f"{lesson_id}: {lesson.claim} Holds for: {stated or 'not stated'}."
