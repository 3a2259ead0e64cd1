"""Chat models that advise a search: one divides it, one reads the measurements, one looks for what the knowledge base was not asked yet, one says what was learned. They decide nothing.

Rules come first and stay where a model's answer is of no use: a verdict, its status and its numbers are the evaluator's alone.
"""

from __future__ import annotations

import dataclasses
import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from agents.chat_models.calls import AdviceOutcome, CallOutcome, Meter, ModelCallError
from agents.coders.feedback import describe
from agents.coders.prompt import shorten
from agents.coders.repair import loose_object
from agents.lessons import MAX_LESSONS, PRECONDITIONS
from agents.prompts import render
from agents.reading import is_own_guide
from agents.threads import in_thread
from agents.types import Attempt, Diagnosis
from agents.work_plan import MAX_ITEMS, MAX_TEXT, WorkItem, plan_of
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
_MAX_DEPTH = 6
MAX_FROM_FURTHER = 4
"""Findings that each further question adds at most."""
MAX_ANSWER = 200_000
"""Characters of an answer; what is longer is no advice."""
MAX_SHOWN = 200
"""Characters of a passage that the deep search model is shown."""
WORK = "What the reference amounts to"
_SHARES = {
    "Problem": 0.25, "Verdict": 0.1, "Source": 0.25, "By rules": 0.08, "Tried before": 0.06, "Other candidates of this search": 0.06, WORK: 0.05, "Steps": 0.5,
    "Earlier lessons": 0.15, "The target": 0.08, "Earlier winners": 0.2, "Knowledge": 0.2, "Asked already": 0.05, "Diagnosis": 0.1, "Plan": 0.05, "Found so far": 0.4,
}  # fmt: skip
"""Most of the request that a part may take; those of one request add up to less than 1."""

DEADLY = (CallOutcome.REFUSED_KEY, CallOutcome.UNANSWERED)
"""Failures of an adviser that stop the run; after any other the rules stand."""


class Advisers:
    """The models of the roles `planner`, `diagnosis`, `deep_search` and `reflection`; a role without one works by rules alone.

    Args:
        clients: By role.
        amounts: Says what a problem moves and computes, for the planner and the diagnosis; called in a thread.
    """

    def __init__(self, clients: Mapping[str, ChatClient], amounts: Callable[[Problem], str] = lambda problem: "") -> None:
        self._clients = clients
        self._amounts = amounts

    def has(self, role: str) -> bool:
        """Return whether a model plays a role."""
        return role in self._clients

    async def diagnose(
        self,
        problem: Problem,
        target: str,
        parents: Sequence[Attempt],
        rules: Diagnosis,
        meter: Meter,
        told: Mapping[str, str] | None = None,
        **about: Any,  # Any: JSON for the transcript
    ) -> Diagnosis | None:
        """Return the diagnosis of the rules in a model's words and with its questions; None where its answer is of no use.

        Args:
            problem: What is to be computed.
            target: Exact target.
            parents: What is built on; the last one is diagnosed.
            rules: What the rules say.
            meter: Counts the request.
            told: Further titled material: the chip, what the reference amounts to, the other candidates.
        """
        if "diagnosis" not in self._clients or not parents:
            return None
        last = parents[-1]
        parts = {
            "Problem": problem.source,
            "Verdict": (f"what its writer said: {last.notes}\n" if last.notes else "") + describe(last.evaluation),
            "Source": last.candidate.source,
            "By rules": f"{rules.bottleneck}: {rules.summary}",
            "Tried before": "\n".join(rules.failed_ideas),
            **(told or {}),
            WORK: await in_thread(lambda: self._amounts(problem)),
        }
        has_passed = last.evaluation.status is Status.PASSED
        allowed = PERFORMANCE if has_passed else (rules.bottleneck,)
        system = render("diagnosis_system.md", bottlenecks=allowed, has_passed=has_passed, length=MAX_SUMMARY)
        data = await self._ask("diagnosis", system, f"Kernel for {problem.name} on {target}.", parts, meter, about)
        if data is None:
            return None
        bottleneck, summary, questions = data.get("bottleneck"), data.get("summary"), _questions(data, MAX_QUESTIONS)
        if not isinstance(bottleneck, str) or bottleneck not in allowed or not isinstance(summary, str) or not summary.strip():
            wrong = "no bottleneck of those allowed" if bottleneck not in list(allowed) else "no summary"
            meter.advised("diagnosis", AdviceOutcome.WRONG_FORM, wrong)
            return None
        meter.advised("diagnosis", AdviceOutcome.USED)
        return dataclasses.replace(
            rules,
            bottleneck=str(bottleneck),
            summary=f"{rules.summary}\nIn other words: {' '.join(summary.split())[:MAX_SUMMARY]}",
            questions=questions or rules.questions,
        )

    async def further_questions(
        self, brief: Brief, target: str, meter: Meter, told: Mapping[str, str] | None = None, **about: Any
    ) -> tuple[str, ...]:  # Any: JSON
        """Return what else to ask the knowledge base, given what was found.

        Args:
            brief: What was found.
            target: Exact target.
            meter: Counts the request.
            told: Further titled material: the problem, the diagnosis, the plan, what was asked.
        """
        if "deep_search" not in self._clients:
            return ()
        system = render("deep_search_system.md")
        parts = {**(told or {}), "Found so far": outline(brief)}
        data = await self._ask("deep_search", system, f"A kernel for the target {target}.", parts, meter, about)
        if data is None:
            return ()
        asked = _questions(data, MAX_FURTHER)
        is_enough = data.get("questions") == []
        outcome = AdviceOutcome.USED if asked else AdviceOutcome.NOTHING if is_enough else AdviceOutcome.WRONG_FORM
        meter.advised("deep_search", outcome, "" if asked or is_enough else "no list of questions as text")
        return asked

    async def plan(
        self,
        problem: Problem,
        target: str,
        told: Mapping[str, str],
        evaluations: int | None,
        meter: Meter,
        language: str = "Triton",
        drafts: int | None = None,
        **about: Any,  # Any: JSON for the transcript
    ) -> tuple[WorkItem, ...]:
        """Return how the planner model divides the search; empty without one or where its answer is of no use.

        Args:
            problem: What is to be computed.
            target: Exact target.
            told: Titled material beside the problem.
            evaluations: What may be spent; None: no limit.
            meter: Counts the request.
            language: What kernels are written in.
            drafts: With how many the search begins, if its strategy says so.
        """
        if "planner" not in self._clients:
            return ()
        budget = f"there are {evaluations}" if evaluations is not None else "time limits them, not a number"
        budget += f", and the search begins with {drafts} drafts" if drafts else ""
        system = render("planner_system.md", targets=(target,), most=MAX_ITEMS, budget=budget, language=language, length=MAX_TEXT)
        opening = f"A fast kernel for {problem.name} on {target} is to be found."
        amounts = await in_thread(lambda: self._amounts(problem))
        data = await self._ask("planner", system, opening, {"Problem": problem.source, WORK: amounts, **told}, meter, about)
        if data is None:
            return ()
        items = plan_of(data, (target,), evaluations)
        meter.advised("planner", AdviceOutcome.USED if items else AdviceOutcome.WRONG_FORM, "" if items else "no item that can be followed")
        return items

    async def reflect(self, name: str, target: str, told: Mapping[str, str], meter: Meter, **about: Any) -> dict[str, Any]:  # Any: JSON
        """Return what the reflection model read out of measured steps, unchecked; see `agents.lessons`. Empty without a usable answer."""
        if "reflection" not in self._clients:
            return {}
        system = render("reflection_system.md", most=MAX_LESSONS, keys=PRECONDITIONS)
        data = await self._ask("reflection", system, f"A search for {name} on {target} has ended.", told, meter, about)
        if data is None:
            return {}
        given = [data.get(key) for key in ("lessons", "tested")]
        says_nothing = all(item in (None, []) for item in given) and "lessons" in data
        is_wrong = not says_nothing and not any(isinstance(item, list) and item for item in given)
        outcome = AdviceOutcome.WRONG_FORM if is_wrong else AdviceOutcome.NOTHING if says_nothing else AdviceOutcome.USED
        meter.advised("reflection", outcome, "no list of lessons" if is_wrong else "")
        return data

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
            meter.advised(role, AdviceOutcome.NO_ANSWER, error.outcome.value)
            return None
        text = text_of(answer).strip()
        data = None if len(text) > MAX_ANSWER else loose_object(text) or _embedded(text)
        if data is not None:
            return dict(_plain(data))
        if answer.tool_calls or answer.invalid_tool_calls:
            outcome, detail = AdviceOutcome.TOOL_CALL, "it called a tool, and none was offered"
        elif not text:
            outcome, detail = AdviceOutcome.EMPTY, ""
        elif len(text) > MAX_ANSWER:
            outcome, detail = AdviceOutcome.TOO_LONG, f"{len(text)} characters, at most {MAX_ANSWER} are read"
        else:
            outcome, detail = AdviceOutcome.NO_JSON, " ".join(text.split())[:100]
        logger.info("the answer of the %s model is of no use, the rules stand: %s", role, outcome.value)
        meter.advised(role, outcome, detail)
        return None


def outline(brief: Brief) -> str:
    """Return what was found as one line a passage, with what was asked and not found."""
    lines = []
    for finding in brief.findings:
        if is_own_guide(finding.hit.source.path):
            continue
        shown = "" if finding.claim.lstrip().startswith(("|", "`" * 3)) else f": {' '.join(finding.claim.split())[:MAX_SHOWN]}"
        lines.append(f"- {' > '.join(finding.hit.section_path)[:160]}{shown}")
    lines += [f"- not found: {item[:MAX_SHOWN]}" for item in brief.not_found]
    return "\n".join(dict.fromkeys(lines))


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


def _plain(value: Any, depth: int = 0) -> Any:  # Any: JSON
    """Return a JSON value whose texts can be stored: without lone surrogates and control characters; what is nested too deep is dropped."""
    if isinstance(value, str):
        told = value.encode("utf-8", "replace").decode()
        return "".join(letter if letter.isprintable() or letter in "\n\t" else " " for letter in told)
    if depth > _MAX_DEPTH:
        return None
    if isinstance(value, dict):
        return {str(_plain(str(key))): _plain(item, depth + 1) for key, item in value.items()}
    return [_plain(item, depth + 1) for item in value] if isinstance(value, list) else value


def _questions(data: Mapping[str, Any], most: int) -> tuple[str, ...]:  # Any: JSON
    given = data.get("questions")
    if not isinstance(given, list):
        return ()
    cleaned = (" ".join(item.split())[:MAX_QUESTION] for item in given if isinstance(item, str))
    return tuple(dict.fromkeys(item for item in cleaned if item))[:most]
