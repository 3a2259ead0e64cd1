"""Compose the prompt of an LLM coder: what is most valuable first, within a limit of tokens, with a record of what was cut.

Everything that is not ours (sources, logs, passages, notes) stands between tags with a digest of the prompt's material, which no material can close.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from agents.chat_models.client import BYTES_PER_TOKEN
from agents.coders.base import CoderTask
from agents.coders.feedback import describe
from agents.prompts import render
from agents.types import REPEATS, Attempt
from tools.types import Evidence, Status

_LEAST_PART = 300
"""A part that would be cut below so many bytes is left out instead."""
_MAX_KNOWN = 12
"""Latest candidates that a draft is told not to repeat."""
_FRAME_BYTES = 800
"""What the frame of the prompt takes, without its parts."""
_PART_FRAME_BYTES = 60


@dataclass(frozen=True)
class Part:
    """One titled part of the prompt."""

    title: str
    text: str
    share: float = 1.0
    """Most of the prompt that it may take while others wait, 0 to 1."""
    is_data: bool = True
    """True: material that is set apart from instructions."""
    keep: str = "both"
    """What of a text that is cut is kept: `start`, or `both` ends."""
    chunk_id: str = ""
    """The chunk that it quotes."""


@dataclass(frozen=True)
class Prompt:
    """A composed prompt."""

    text: str
    chunk_ids: tuple[str, ...]
    """Chunks of the knowledge base that it quotes."""
    left_out: tuple[str, ...]
    """Titles of the parts that were cut or dropped for length, with how much."""

    @property
    def tokens(self) -> int:
        """Its length, estimated on the safe side."""
        return -(-len(self.text.encode()) // BYTES_PER_TOKEN)


class PromptTooLong(ValueError):
    """The problem alone does not fit into the limit."""


def compose(task: CoderTask, prompt_tokens: int | None = None) -> Prompt:
    """Return the prompt of a task; the problem itself is never cut.

    Args:
        task: What is to be written.
        prompt_tokens: Most tokens; None: the task's limit.

    Raises:
        PromptTooLong: The problem alone is longer than that.
    """
    limit = (task.limits.prompt_tokens if prompt_tokens is None else prompt_tokens) * BYTES_PER_TOKEN
    problem = Part("Problem: problem.py", task.problem.source)
    room = limit - _size(problem) - _FRAME_BYTES
    if room < 0:
        raise PromptTooLong(
            f"the problem alone takes {_size(problem) // BYTES_PER_TOKEN} tokens and the limit is {limit // BYTES_PER_TOKEN}; use a model with a larger context"
        )
    parts = [part for part in _parts(task) if part.text.strip()]
    sizes = allot(parts, room)
    kept: list[Part] = []
    left_out: list[str] = []
    for part, size in zip(parts, sizes, strict=True):
        whole = len(part.text.encode())
        if size >= whole:
            kept.append(part)
        elif size >= _LEAST_PART:
            kept.append(replace(part, text=shorten(part.text, size, part.keep)))
            left_out.append(f"{part.title} (cut to {size} of {whole} bytes)")
        else:
            left_out.append(f"{part.title} ({whole} bytes)")
    shown = [problem, *kept]
    text = render(
        "coder_task.md",
        target=task.target,
        intent=_intent(task),
        parts=shown,
        left_out=left_out,
        tag="data-" + hashlib.sha256("\0".join(part.text for part in shown).encode()).hexdigest()[:8],
    )
    return Prompt(text=text, chunk_ids=tuple(dict.fromkeys(part.chunk_id for part in kept if part.chunk_id)), left_out=tuple(left_out))


def shorten(text: str, size: int, keep: str) -> str:
    """Return a text cut to about `size` bytes, never more, with a mark where something is missing."""
    mark = f"\n[… cut for length: {len(text.encode()) - size} bytes …]\n"
    room = max(0, size - len(mark.encode()))
    data = text.encode()
    if keep == "start":
        return data[:room].decode(errors="ignore") + mark
    tail = room // 3
    return data[: room - tail].decode(errors="ignore") + mark + (data[-tail:].decode(errors="ignore") if tail else "")


def allot(parts: Sequence[Part], room: int) -> list[int]:
    """Return how many bytes each part gets: in order up to its share, then in order what is left."""
    total = room
    wanted = [len(part.text.encode()) for part in parts]
    given = [0] * len(parts)
    for is_second in (False, True):
        for index, part in enumerate(parts):
            frame = 0 if given[index] else _PART_FRAME_BYTES + len(part.title.encode())
            most = wanted[index] if is_second else min(wanted[index], int(part.share * total))
            more = min(most - given[index], room - frame)
            if more > 0 and (given[index] or more >= min(_LEAST_PART, wanted[index])):
                given[index] += more
                room -= more + frame
    return given


def _size(part: Part) -> int:
    return len(part.text.encode()) + len(part.title.encode()) + _PART_FRAME_BYTES


def _parts(task: CoderTask) -> list[Part]:
    """Return the parts in the order of their value."""
    last, others = task.parents[-1:], list(reversed(task.parents[:-1]))
    parts: list[Part] = []
    for parent in last:
        parts.append(Part("Last attempt: verdict", _verdict(parent), 0.2))
        parts.append(Part("Last attempt: parent.py", parent.candidate.source, 0.5))
    if task.directive:
        parts.append(Part("Plan: what this session is for", task.directive, 0.05))
    parts += [Part("Known candidates: write something else", known, 0.06)] if (known := _known(task)) else []
    parts += _diagnosis(task)
    if not task.parents or task.parents[-1].evaluation.status is not Status.PASSED:
        has_warps = task.target.partition(":")[0] in ("cuda", "rocm")
        frame = render(f"skeleton_{_language(task)}.md", has_warps=has_warps)
        parts.append(Part("A frame that works here", frame, 0.5, is_data=False, keep="start"))
    parts += _target(task)
    parts += _brief(task)
    for number, winner in enumerate(task.winners[:2], start=1):
        parts.append(Part(f"Winner of an earlier run for {winner.problem_id} ({number})", winner.source, 0.25))
    for parent in others:
        parts.append(Part("Other parent: verdict", _verdict(parent), 0.1))
        parts.append(Part("Other parent: source", parent.candidate.source, 0.3))
    return [*parts, *_remembered(task)]


def _language(task: CoderTask) -> str:
    return language_of_target(task.target)


def language_of_target(target: str) -> str:
    """Return what kernels for a target are written in: `cpp` or `triton`."""
    return "cpp" if target.partition(":")[0] == "cpu" else "triton"


def language_text(language: str) -> str:
    """Return a language of kernels in words."""
    return "C++ (OpenMP and vector code, compiled when the file is loaded)" if language == "cpp" else "Triton"


def _intent(task: CoderTask) -> str:
    if not task.parents:
        if _known(task):
            return "This is another draft: correct before clever, and different from the known candidates in its algorithm, its layout or its division into kernels."
        return "This is a first draft: correct before clever, but choose the right algorithm and fusion now."
    if REPEATS in task.parents[-1].notes:
        return "Your last answer repeats a known candidate, so it was not measured again. Write one that differs in what decides its speed."
    if len(task.parents) > 1 and task.attempt == 1:
        return "Combine the strengths of the two parents."
    if task.parents[-1].evaluation.status is Status.PASSED:
        return "The last attempt is correct. Make it faster without changing what it computes."
    return "The last attempt failed. Find the cause in its verdict and repair it; keep what was right."


def _verdict(attempt: Attempt) -> str:
    notes = f"what its writer said: {attempt.notes}\n" if attempt.notes else ""
    return notes + describe(attempt.evaluation)


def _diagnosis(task: CoderTask) -> list[Part]:
    if task.diagnosis is None or task.diagnosis.bottleneck == "none_yet":
        return []
    parts = [Part("Diagnosis", f"dominant bottleneck: {task.diagnosis.bottleneck}\n{task.diagnosis.summary}", 0.1)]
    if task.diagnosis.failed_ideas:
        parts.append(Part("Ideas that failed: do not repeat them", "\n".join(f"- {idea}" for idea in task.diagnosis.failed_ideas), 0.1))
    return parts


def _target(task: CoderTask) -> list[Part]:
    amounts = Part("What the reference amounts to", task.amounts, 0.05, keep="start")
    return [Part(f"Target {task.target}", target_facts(task.target), 0.1, keep="start"), amounts]


def target_facts(target: str) -> str:
    """Return what a chip is and its limits, one a line; empty if the tools do not know it."""
    from tools.errors import ToolsError
    from tools.targets.registry import get_target

    try:
        chip = get_target(target)
        lines = [chip.describe().summary]
        lines += [f"{name}: {limit.value:g} {limit.unit if limit.unit != '1' else ''}".rstrip() for name, limit in chip.limits().items()]
    except ToolsError:
        return ""
    return "\n".join([*lines, *(_caches() if target == "cpu" else ())])


def _caches() -> list[str]:
    """Return the data caches of this machine's first core, one a line, as Linux states them; nothing elsewhere."""
    found = []
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        try:
            level, kind, size = ((index / name).read_text(encoding="utf-8").strip() for name in ("level", "type", "size"))
        except OSError:
            continue
        if kind != "Instruction":
            found.append(f"cache_level_{level}: {size}")
    return found


def _brief(task: CoderTask) -> list[Part]:
    if task.brief is None:
        return []
    parts = [
        Part(
            f"Knowledge: {' > '.join(finding.hit.section_path)[:160]}",
            f"[{finding.hit.chunk_id}] trust: {finding.hit.trust.value}\n{finding.hit.text}",
            0.12,
            keep="start",
            chunk_id=finding.hit.chunk_id,
        )
        for finding in task.brief.findings
    ]
    if task.brief.not_found:
        parts.append(Part("Knowledge: not found", "\n".join(f"- {item}" for item in task.brief.not_found), 0.03, keep="start"))
    return parts


def _known(task: CoderTask) -> str:
    """Return what a draft must not repeat, without outcomes: equal prompts get equal answers, and independent drafts are no use if they are one."""
    is_repeat = bool(task.parents) and REPEATS in task.parents[-1].notes
    if task.parents and not is_repeat:
        return ""
    latest = task.history[max(0, len(task.history) - _MAX_KNOWN) :]
    notes = (attempt.notes.replace(REPEATS, "").strip()[:300] for attempt in latest)
    return "\n".join(dict.fromkeys(f"- {note}" for note in notes if note))


def _remembered(task: CoderTask) -> list[Part]:
    failed = task.diagnosis.failed_ideas if task.diagnosis is not None else ()
    told = [attempt for attempt in task.remembered if not any(attempt.notes and idea.startswith(attempt.notes[:200]) for idea in failed)]
    text = other_candidates(told, task.parents)
    return [Part("Earlier attempts", text, 0.1)] if text else []


def other_candidates(attempts: Sequence[Attempt], shown: Sequence[Attempt]) -> str:
    """Return what became of attempts, one a line, each once, without those that are shown anyway."""
    known = {parent.node_id for parent in shown} | {parent.candidate.candidate_id for parent in shown}
    lines = []
    for attempt in attempts:
        if attempt.node_id not in known and attempt.candidate.candidate_id not in known:
            evaluation = attempt.evaluation
            told = " (simulated)" if evaluation.evidence is Evidence.SIMULATED else ""
            outcome = f"fitness {evaluation.fitness:.3f}{told}" if evaluation.fitness else evaluation.status.value
            if not evaluation.fitness and evaluation.latency_ms is not None:
                outcome = f"{evaluation.status.value}, {evaluation.latency_ms:.4g} ms {evaluation.evidence.value}"
            lines.append(f"- {outcome}: {attempt.notes[:300] or attempt.candidate.candidate_id}")
    return "\n".join(list(dict.fromkeys(lines))[-30:])
