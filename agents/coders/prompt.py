"""Compose the prompt of an LLM coder: what is most valuable first, within a limit of tokens, with a record of what was left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agents.coders.base import CoderTask
from agents.prompts import render
from agents.types import Attempt
from tools.types import Status

CHARACTERS_PER_TOKEN = 4
"""Rough size of a token in English and code; errs on the safe side for prose."""
_LEAST_PART = 400
"""A part that would be cut below so many characters is left out instead."""


@dataclass(frozen=True)
class Part:
    """One titled part of the prompt."""

    title: str
    text: str
    is_data: bool = True
    """True: material that is set apart from instructions."""


@dataclass(frozen=True)
class Prompt:
    """A composed prompt."""

    text: str
    chunk_ids: tuple[str, ...]
    """Chunks of the knowledge base that it quotes."""
    left_out: tuple[str, ...]
    """Titles of the parts that were cut or dropped for length."""


def compose(task: CoderTask) -> Prompt:
    """Return the prompt of a task; the problem itself is never cut."""
    limit = task.limits.prompt_tokens * CHARACTERS_PER_TOKEN
    required = [Part("Problem (problem.py)", task.problem.source)]
    optional = [*_parents(task), *_diagnosis(task), *_brief(task), *_winners(task), *_remembered(task)]
    room = limit - sum(len(part.text) + len(part.title) for part in required) - 1000
    kept: list[Part] = []
    left_out: list[str] = []
    for part in optional:
        if len(part.text) <= room:
            kept.append(part)
            room -= len(part.text) + len(part.title) + 20
        elif room >= _LEAST_PART:
            kept.append(Part(part.title, part.text[: room - 40] + "\n[cut for length]", part.is_data))
            left_out.append(f"{part.title} (cut)")
            room = 0
        else:
            left_out.append(part.title)
    text = render(
        "coder_task.md",
        target=task.target,
        intent=_intent(task),
        parts=[Part(part.title, _defuse(part.text) if part.is_data else part.text, part.is_data) for part in (*required, *kept)],
    )
    shown = any(part.title.startswith("Knowledge") for part in kept)
    chunk_ids = tuple(dict.fromkeys(finding.hit.chunk_id for finding in task.brief.findings)) if task.brief is not None and shown else ()
    return Prompt(text=text, chunk_ids=chunk_ids, left_out=tuple(left_out))


def _defuse(text: str) -> str:
    """Keep material from closing its own fence."""
    return text.replace("</data>", "<\\/data>").replace("<data>", "<\\data>")


def _intent(task: CoderTask) -> str:
    if not task.parents:
        return "This is a first draft: correct before clever."
    if len(task.parents) > 1 and task.attempt == 1:
        return "Combine the strengths of the two parents."
    if task.parents[-1].evaluation.status is Status.PASSED:
        return "Make the parent faster."
    return "Repair the last attempt."


def _parents(task: CoderTask) -> list[Part]:
    parts = []
    for number, parent in enumerate(reversed(task.parents), start=1):
        name = "Last attempt (parent.py)" if number == 1 else f"Other parent {number}"
        parts.append(Part(f"{name}: outcome", _outcome(parent)))
        parts.append(Part(f"{name}: source", parent.candidate.source))
    return parts


def _outcome(attempt: Attempt) -> str:
    evaluation = attempt.evaluation
    lines = [f"status: {evaluation.status.value}", f"notes: {attempt.notes}"]
    if evaluation.status is Status.PASSED:
        lines.append(f"latency_ms: {evaluation.latency_ms}")
        lines += [f"speedup over {name}: {interval.value:.3f}" for name, interval in evaluation.speedup.items()]
        if evaluation.roofline_fraction is not None:
            lines.append(f"fraction of the physical floor: {evaluation.roofline_fraction:.2f}")
        lines += [f"{name}: {value:.4g}" for name, value in sorted(evaluation.feedback.profile.items())]
    else:
        lines += [evaluation.reason, *evaluation.feedback.lint, evaluation.feedback.error, evaluation.feedback.first_mismatch]
    return "\n".join(line for line in lines if line)


def _diagnosis(task: CoderTask) -> list[Part]:
    if task.diagnosis is None:
        return []
    parts = [Part("Diagnosis", f"dominant bottleneck: {task.diagnosis.bottleneck}\n{task.diagnosis.summary}")]
    if task.diagnosis.failed_ideas:
        parts.append(Part("Ideas that failed", "\n".join(f"- {idea}" for idea in task.diagnosis.failed_ideas)))
    return parts


def _brief(task: CoderTask) -> list[Part]:
    if task.brief is None or not task.brief.findings:
        return []
    passages = [f"[{finding.hit.chunk_id}] {' > '.join(finding.hit.section_path)}\n{finding.hit.text}" for finding in task.brief.findings]
    return [Part("Knowledge (cited passages)", "\n\n".join(passages))]


def _winners(task: CoderTask) -> list[Part]:
    return [Part(f"Earlier winner for {winner.problem_id}", winner.source) for winner in task.winners[:2]]


def _remembered(task: CoderTask) -> list[Part]:
    earlier: Sequence[Attempt] = [
        attempt for attempt in task.remembered if attempt.node_id not in {parent.node_id for parent in task.parents}
    ]
    if not earlier:
        return []
    lines = [
        f"- {attempt.notes or attempt.candidate.candidate_id}: {_outcome(attempt).splitlines()[0]}, fitness {attempt.evaluation.fitness:.3f}"
        for attempt in earlier
    ]
    return [Part("Earlier attempts", "\n".join(lines[-30:]))]
