"""Chat models that advise a search: one divides it, one reads the measurements, one looks for what the knowledge base was not asked yet, one says what was learned. They decide nothing.

Rules come first and stay where a model's answer is of no use: a verdict, its status and its numbers are the evaluator's alone.
"""

from __future__ import annotations

import dataclasses
import hashlib
import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from agents.chat_models.calls import CallOutcome, Meter, ModelCallError
from agents.coders.feedback import describe
from agents.coders.prompt import shorten
from agents.coders.repair import loose_object
from agents.lessons import MAX_LESSONS, PRECONDITIONS
from agents.prompts import render
from agents.types import Attempt, Diagnosis
from agents.work_plan import MAX_ITEMS, WorkItem, plan_of
from tools.types import Problem, Status

if TYPE_CHECKING:
    from agents.chat_models.client import ChatClient
    from kb.deep_search import Brief

logger = logging.getLogger(__name__)

PERFORMANCE = ("memory_bandwidth", "latency", "compute", "unknown")
"""What a model may name as the bottleneck of a candidate that passed; that of one that failed is its status."""
MAX_SUMMARY = 1500
MAX_QUESTIONS = 4
MAX_FURTHER = 3
MAX_QUESTION = 300
MAX_FROM_FURTHER = 4
"""Findings that each further question adds at most."""
_SHARES = {
    "Problem": 0.3, "Verdict": 0.2, "Source": 0.3, "By rules": 0.1, "Tried before": 0.1, "Steps": 0.5, "Earlier lessons": 0.15,
    "The target": 0.1, "Earlier winners": 0.2,
}  # fmt: skip
"""Most of the request that a part may take."""

DEADLY = (CallOutcome.REFUSED_KEY, CallOutcome.UNANSWERED)
"""Failures of an adviser that stop the run; after any other the rules stand."""


class Advisers:
    """The models of the roles `planner`, `diagnosis`, `deep_search` and `reflection`; a role without one works by rules alone."""

    def __init__(self, clients: Mapping[str, ChatClient]) -> None:
        self._clients = clients

    def has(self, role: str) -> bool:
        """Return whether a model plays a role."""
        return role in self._clients

    async def diagnose(
        self, problem: Problem, target: str, parents: Sequence[Attempt], rules: Diagnosis, meter: Meter, **about: Any
    ) -> Diagnosis | None:  # Any: JSON for the transcript
        """Return the diagnosis of the rules in a model's words and with its questions; None where its answer is of no use."""
        if "diagnosis" not in self._clients or not parents:
            return None
        last = parents[-1]
        parts = {
            "Problem": problem.source,
            "Verdict": describe(last.evaluation),
            "Source": last.candidate.source,
            "By rules": f"{rules.bottleneck}: {rules.summary}",
            "Tried before": "\n".join(rules.failed_ideas),
        }
        has_passed = last.evaluation.status is Status.PASSED
        allowed = PERFORMANCE if has_passed else (rules.bottleneck,)
        system = render("diagnosis_system.md", bottlenecks=allowed)
        data = await self._ask("diagnosis", system, f"Kernel for {problem.name} on {target}.", parts, meter, about)
        if data is None:
            return None
        bottleneck, summary, questions = data.get("bottleneck"), data.get("summary"), _questions(data, MAX_QUESTIONS)
        if bottleneck not in allowed or not isinstance(summary, str) or not summary.strip():
            logger.info("the diagnosis of the model is of no use: %s", str(data)[:200])
            return None
        return dataclasses.replace(
            rules,
            bottleneck=str(bottleneck),
            summary=f"{rules.summary}\nIn other words: {' '.join(summary.split())[:MAX_SUMMARY]}",
            questions=questions or rules.questions,
        )

    async def further_questions(self, brief: Brief, target: str, meter: Meter, **about: Any) -> tuple[str, ...]:  # Any: JSON
        """Return what else to ask the knowledge base, given what was found."""
        if "deep_search" not in self._clients:
            return ()
        system = render("deep_search_system.md")
        data = await self._ask("deep_search", system, f"Target: {target}.", {"Found so far": brief.to_text()}, meter, about)
        return _questions(data or {}, MAX_FURTHER)

    async def plan(
        self, problem: Problem, target: str, told: Mapping[str, str], evaluations: int | None, meter: Meter, **about: Any
    ) -> tuple[WorkItem, ...]:  # Any: JSON for the transcript
        """Return how the planner model divides the search; empty without one or where its answer is of no use.

        Args:
            problem: What is to be computed.
            target: Exact target.
            told: Titled material beside the problem.
            evaluations: What may be spent; None: no limit.
            meter: Counts the request.
        """
        if "planner" not in self._clients:
            return ()
        budget = f"{evaluations} evaluations" if evaluations is not None else "limited by time, not by a number of evaluations"
        system = render("planner_system.md", targets=(target,), most=MAX_ITEMS, budget=budget)
        opening = f"A fast kernel for {problem.name} on {target} is to be found."
        data = await self._ask("planner", system, opening, {"Problem": problem.source, **told}, meter, about)
        return plan_of(data or {}, (target,), evaluations)

    async def reflect(self, name: str, target: str, told: Mapping[str, str], meter: Meter, **about: Any) -> dict[str, Any]:  # Any: JSON
        """Return what the reflection model read out of measured steps, unchecked; see `agents.lessons`. Empty without a usable answer."""
        if "reflection" not in self._clients:
            return {}
        system = render("reflection_system.md", most=MAX_LESSONS, keys=PRECONDITIONS)
        return await self._ask("reflection", system, f"A search for {name} on {target} has ended.", told, meter, about) or {}

    async def _ask(
        self, role: str, system: str, opening: str, parts: Mapping[str, str], meter: Meter, about: Mapping[str, Any]
    ) -> dict[str, Any] | None:  # Any: JSON
        from langchain_core.messages import HumanMessage, SystemMessage

        from agents.chat_models.client import BYTES_PER_TOKEN, text_of

        client = self._clients[role]
        room = max(2000, (client.input_tokens - 1000) * BYTES_PER_TOKEN)
        cut = {}
        for title, text in parts.items():
            size = int(_SHARES.get(title, 1.0) * room)
            cut[title] = text if len(text.encode()) <= size else shorten(text, size, "both")
        tag = "data-" + hashlib.sha256("\0".join(cut.values()).encode()).hexdigest()[:8]
        told = "\n\n".join([opening, *(f"## {title}\n<{tag}>\n{text}\n</{tag}>" for title, text in cut.items() if text.strip())])
        try:
            answer = await client.ask([SystemMessage(system), HumanMessage(told)], (), meter, **about)
        except ModelCallError as error:
            if error.outcome in DEADLY:
                raise
            logger.warning("the %s model gave no advice, the rules stand: %s", role, error)
            return None
        return loose_object(text_of(answer)) or _embedded(text_of(answer))


def interleaved(briefs: Sequence[Brief], most: int = 14) -> Brief:
    """Return one brief of the answers to several questions: the first finding of each, then the second of each, each chunk once."""
    findings: dict[str, Any] = {}  # Any: kb.deep_search.Finding, imported for types only
    for rank in range(max(len(brief.findings) for brief in briefs)):
        for brief in briefs:
            if rank < len(brief.findings) and len(findings) < most:
                findings.setdefault(brief.findings[rank].hit.chunk_id, brief.findings[rank])
    return dataclasses.replace(joined(briefs[0], briefs[1:]), findings=tuple(findings.values()))


def joined(brief: Brief, more: Sequence[Brief]) -> Brief:
    """Return a brief with the findings of further ones after its own, each chunk once."""
    seen = {finding.hit.chunk_id for finding in brief.findings}
    findings = list(brief.findings)
    for other in more:
        for finding in other.findings[:MAX_FROM_FURTHER]:
            if finding.hit.chunk_id not in seen:
                seen.add(finding.hit.chunk_id)
                findings.append(finding)
    return dataclasses.replace(
        brief,
        parts=(*brief.parts, *(part for other in more for part in other.parts)),
        findings=tuple(findings),
        not_found=(*brief.not_found, *(item for other in more for item in other.not_found)),
        queries=(*brief.queries, *(query for other in more for query in other.queries)),
    )


def _embedded(text: str) -> dict[str, Any] | None:  # Any: JSON
    """Return the JSON object inside a longer answer."""
    begin, end = text.find("{"), text.rfind("}")
    return loose_object(text[begin : end + 1]) if 0 <= begin < end else None


def _questions(data: Mapping[str, Any], most: int) -> tuple[str, ...]:  # Any: JSON
    given = data.get("questions")
    if not isinstance(given, list):
        return ()
    cleaned = (" ".join(item.split())[:MAX_QUESTION] for item in given if isinstance(item, str))
    return tuple(dict.fromkeys(item for item in cleaned if item))[:most]
