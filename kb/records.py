"""Winners and lessons as documents, so that people and agents find them by the same search as everything else."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from kb.catalogue import identifier
from kb.types import Document, Kind, Lesson, Section, Trust, Winner


def winner_id(winner: Winner) -> str:
    """Return the id of a winner: problem, target and candidate decide."""
    return identifier("winner", winner.problem_hash, winner.target, winner.candidate_id)


def lesson_id(lesson: Lesson) -> str:
    """Return the id of a lesson: target, preconditions and claim decide."""
    return identifier("lesson", lesson.target, json.dumps(dict(lesson.preconditions), sort_keys=True), lesson.claim)


def winner_document(winner: Winner) -> Document:
    """Return the document of a winner, with source `winner:<id>`."""
    speedups = _speedups(winner.evaluation)
    facts = [
        f"{_kind(winner)} for problem `{winner.problem_id}` on target `{winner.target}`, written in {winner.language}.",
        f"Signature: {winner.signature}",
    ]
    if speedups:
        facts.append(("Simulated speedup, not measured: " if _is_simulated(winner) else "Speedup: ") + "; ".join(speedups) + ".")
    kernels = winner.provenance.get("kernels") or winner.provenance.get("knowledge")
    if kernels:
        facts.append(f"Built from: {json.dumps(kernels, ensure_ascii=False, default=str)}")
    facts.append(f"Candidate `{winner.candidate_id}` of run `{winner.run_id}`.")
    code = ["```python winner", *winner.source.rstrip("\n").split("\n"), "```"]
    title = f"Winner for {winner.problem_id} on {winner.target}"
    root = _sectioned(title, [("What it is", "\n\n".join(facts).split("\n")), ("Source", code)])
    front = {"winner_id": winner_id(winner), "problem_id": winner.problem_id, "problem_hash": winner.problem_hash, "run_id": winner.run_id}
    return Document(
        source=f"winner:{winner_id(winner)}",
        title=title,
        kind=Kind.WINNER,
        root=root,
        content_hash=_hash(root),
        targets=(winner.target,),
        trust=Trust.DERIVED if _is_simulated(winner) else Trust.MEASURED,
        front_matter=front,
    )


def _is_simulated(winner: Winner) -> bool:
    return bool(winner.evaluation.get("evidence") == "simulated")


def _kind(winner: Winner) -> str:
    if _is_simulated(winner):
        return "Kernel with the shortest simulated time (by the analytical model of docs/guide/mtia-model.md; nothing was measured)"
    return "Fastest measured kernel"


def lesson_document(lesson: Lesson) -> Document:
    """Return the document of a lesson, with source `lesson:<id>`."""
    conditions = [f"- {name}: {value}" for name, value in sorted(lesson.preconditions.items())] or ["- none stated"]
    effect = f"Measured effect: {lesson.effect:.3f}x (95 % interval {lesson.effect_low:.3f} to {lesson.effect_high:.3f}) on `{lesson.problem_id}`, target `{lesson.target}`."
    body = [
        lesson.claim,
        "",
        effect,
        f"Status: {lesson.status}.",
        "",
        "Holds when:",
        *conditions,
        "",
        "Evidence: " + ", ".join(lesson.evidence),
    ]
    title = f"Lesson: {lesson.claim}"[:160]
    root = _sectioned(title, [("", body)])
    return Document(
        source=f"lesson:{lesson_id(lesson)}",
        title=title,
        kind=Kind.LESSON,
        root=root,
        content_hash=_hash(root),
        targets=(lesson.target,),
        trust=Trust.MEASURED if lesson.status == "promoted" else Trust.DERIVED,
        front_matter={"lesson_id": lesson_id(lesson), "status": lesson.status},
    )


def winner_json(winner: Winner) -> dict[str, Any]:  # Any: JSON
    """Return a JSON-ready mapping of a winner."""
    return {**winner.__dict__, "provenance": dict(winner.provenance), "evaluation": dict(winner.evaluation)}


def winner_from_json(data: Mapping[str, Any]) -> Winner:  # Any: JSON
    """Rebuild a winner from `winner_json`."""
    return Winner(**data)


def lesson_json(lesson: Lesson) -> dict[str, Any]:  # Any: JSON
    """Return a JSON-ready mapping of a lesson."""
    return {
        **lesson.__dict__,
        "preconditions": dict(lesson.preconditions),
        "versions": dict(lesson.versions),
        "evidence": list(lesson.evidence),
    }


def lesson_from_json(data: Mapping[str, Any]) -> Lesson:  # Any: JSON
    """Rebuild a lesson from `lesson_json`."""
    return Lesson(**{**data, "evidence": tuple(data["evidence"])})


def _speedups(evaluation: Mapping[str, Any]) -> list[str]:  # Any: JSON
    found = []
    for baseline, interval in dict(evaluation.get("speedup") or {}).items():
        if isinstance(interval, Mapping) and "value" in interval:
            low, high = interval.get("low", interval["value"]), interval.get("high", interval["value"])
            found.append(f"{float(interval['value']):.3f}x over {baseline} (interval {float(low):.3f} to {float(high):.3f})")
    return found


def _sectioned(title: str, parts: list[tuple[str, list[str]]]) -> Section:
    """Return a root whose line numbers are those of the parts written one after another."""
    line = 1
    children = []
    own: list[str] = []
    for heading, body in parts:
        if not heading:
            own = body
            line += len(body)
            continue
        children.append(Section(heading, 1, "\n".join(body), line, line + len(body), text_line=line + 1))
        line += len(body) + 1
    return Section(title, 0, "\n".join(own), 1, max(1, len(own)), tuple(children), text_line=1)


def _hash(root: Section) -> str:
    return hashlib.sha256("\0".join([root.text, *(child.title + "\0" + child.text for child in root.children)]).encode()).hexdigest()
