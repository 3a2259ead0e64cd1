"""Deep search: a question taken apart, asked in several formulations, followed into documents and along links, until its parts are answered.

It works by rules and a thesaurus of the field (`kb/deep/concepts.yaml`), and better with a language model (`kb/deep/advisor.py`). Every claim of the brief is
quoted from the chunk it cites. The number of queries is bounded and stands in the brief.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kb.abstention import support
from kb.brief import Brief, Finding, RankedSection
from kb.deep.claims import is_supported, quote
from kb.deep.concepts import Meant, Thesaurus
from kb.deep.decompose import content_words, decompose, names, sides, subject_words
from kb.deep.evidence import Evidence, Key, Pool, key_of, take_turns
from kb.deep.walk import Atlas, feedback_terms
from kb.target_words import named_target
from kb.types import Filters, Hit

if TYPE_CHECKING:
    from kb.deep.advisor import Advisor
    from kb.store import KnowledgeBase

__all__ = ["Brief", "DeepSearch", "DeepSearchOptions", "Finding", "decompose", "quote"]

ENOUGH = 0.75
"""A part counts as answered when a section holds this share of its content words."""


@dataclass(frozen=True)
class Weights:
    """What each way of looking counts, in the fusion of ranks."""

    query: float = 1.0
    """The part as it was asked."""
    whole: float = 0.5
    """The whole question, for a part of it."""
    words: float = 0.5
    """Its content words and names."""
    meaning: float = 0.3
    """By meaning alone, or by words alone."""
    concept: float = 0.6
    """With the terms of a concept that it describes."""
    named: float = 0.2
    """With further names of a concept that it names."""
    expansion: float = 0.2
    """With words that the best sections share."""
    section: float = 0.2
    """Inside the documents with most evidence."""
    link: float = 0.2
    """Inside documents that the best sections link to."""
    collection: float = 1.0
    """Inside the collections that the question names."""
    neighbour: float = 1.0
    """Inside the document that answers another part best."""
    model: float = 0.5
    """Each formulation of a language model."""


@dataclass(frozen=True)
class DeepSearchOptions:
    """How far a deep search goes."""

    max_queries: int = 48
    """Most queries put to the base."""
    per_query: int = 30
    """Hits looked at per query."""
    num_findings: int = 10
    """Most findings in the brief."""
    num_sections: int = 20
    """Most sections in the ranking."""
    num_concepts: int = 3
    """Most concepts followed per part, of those named and of those described."""
    num_expansions: int = 5
    """Words taken from the best sections to ask again with."""
    num_documents: int = 2
    """Documents looked into, and links followed, per part."""
    num_formulations: int = 6
    """Most queries that a language model formulates."""
    weights: Weights = field(default_factory=Weights)


class DeepSearch:
    """Answers questions with cited briefs.

    Args:
        base: What is searched.
        options: How far it goes.
        advisor: A language model that formulates and selects; None: by rules alone.
        thesaurus: In place of the packaged one.
    """

    def __init__(
        self,
        base: KnowledgeBase,
        options: DeepSearchOptions | None = None,
        advisor: Advisor | None = None,
        thesaurus: Thesaurus | None = None,
    ) -> None:
        self._base = base
        self._options = options or DeepSearchOptions()
        self._advisor = advisor
        self._thesaurus = thesaurus

    def ask(self, question: str, filters: Filters | None = None) -> Brief:
        """Return a brief for a question.

        Raises:
            ValueError: The question is empty, or a filter is not written as one.
        """
        parts = decompose(question)
        if not parts:
            raise ValueError("the question is empty; write what you want to know")
        filters = filters or Filters()
        if filters.target is None:
            filters = dataclasses.replace(filters, target=named_target(question))
        if self._thesaurus is None:
            self._thesaurus = Thesaurus(self._base.embedder(), self._base.home / "kb" / "deep")
        session = _Session(self._base, filters, self._options, self._thesaurus)
        subject = names(question)
        calls_before = self._advisor.num_calls if self._advisor else 0
        formulations = tuple(self._advisor.formulate(question, self._options.num_formulations)) if self._advisor else ()
        answers = [(part, *session.answer(part, question, subject, formulations)) for part in parts]
        session.share(answers)
        not_found = [f"{part}: {reason}" for part, _, reason in answers if reason]
        answered = [(part, pool) for part, pool, reason in answers if not reason]
        pools = [pool for _, pool in answered or [answer[:2] for answer in answers]]
        merged = _merged(pools, self._wanted)
        if self._advisor is not None and merged:
            merged = self._advised(self._advisor, question, session, pools, merged)
        findings = [_finding(answered[index][0], item) for index, item in merged[: self._options.num_findings]] if answered else []
        sections = tuple(_section(rank, item) for rank, (_, item) in enumerate(merged[: self._options.num_sections], start=1))
        kept = tuple(finding for finding in findings if finding is not None)
        return Brief(
            question,
            tuple(parts),
            kept,
            tuple(not_found),
            tuple(session.asked),
            sections,
            self._base.conflicts([finding.hit.chunk_id for finding in kept]),
            self._advisor.num_calls - calls_before if self._advisor else 0,
        )

    @property
    def _wanted(self) -> int:
        return max(self._options.num_sections, self._options.num_findings)

    def _advised(
        self, advisor: Advisor, question: str, session: _Session, pools: Sequence[Pool], merged: list[tuple[int, Evidence]]
    ) -> list[tuple[int, Evidence]]:
        """Put what a language model finds helpful first; nothing is lost. If nothing helps, it formulates once more, knowing what was found."""
        chosen = _selected(advisor, question, merged)
        if not chosen:
            tried = list(dict.fromkeys(" > ".join(item.hit.section_path) for _, item in merged))
            further = advisor.formulate(question, self._options.num_formulations, tried)
            if further:
                for pool in pools:
                    session.reformulate(pool, further)
                merged = _merged(pools, self._wanted)
                chosen = _selected(advisor, question, merged)
        return [merged[index] for index in chosen] + [item for index, item in enumerate(merged) if index not in set(chosen)]


class _Session:
    """The state of one deep search."""

    def __init__(self, base: KnowledgeBase, filters: Filters, options: DeepSearchOptions, thesaurus: Thesaurus) -> None:
        self._base = base
        self._filters = filters
        self._options = options
        self._weights = options.weights
        self._thesaurus = thesaurus
        self._atlas = Atlas(base)
        self._answers: dict[tuple[str, str, str | None], tuple[Sequence[Hit], str]] = {}
        self.asked: list[str] = []

    def answer(self, part: str, question: str, subject: Sequence[str], formulations: Sequence[str]) -> tuple[Pool, str]:
        """Return what speaks for which section, and why nothing answers the part (empty if something does)."""
        pool, weights = Pool(), self._weights
        reason = self._ask(pool, part, "query", weights.query)
        missing = [name for name in subject if name not in part]
        if part != question:
            self._ask(pool, question, "question", weights.whole)
            if missing:
                self._ask(pool, f"{part} {' '.join(missing)}", "names", weights.words)
        self._ask(pool, " ".join(dict.fromkeys([*subject, *content_words(part)])), "words", weights.words)
        self._ask(pool, part, "meaning", weights.meaning, mode="dense")
        self._ask(pool, part, "lexical", weights.meaning, mode="lexical")
        for side in sides(part):
            self._ask(pool, side, "side", weights.words)
        self.reformulate(pool, formulations)
        need = 1.0 - max((support(item.hit, part) for item in pool.ranked()[:5]), default=0.0)
        self._ask_concepts(pool, part, need)
        for collection in self._atlas.collections(subject_words(question)):
            self._ask(pool, part, "collection", weights.collection, collection)
        self._expand(pool, part)
        self._descend(pool, part)
        self._follow(pool, part)
        if not pool.sections:
            return pool, reason or "the base holds nothing within these filters"
        return pool, reason

    def share(self, answers: Sequence[tuple[str, Pool, str]]) -> None:
        """Look for each part inside the documents that best answer the part before it, for the first the part after it.

        What is asked together often stands together, and a later part seldom names its subject again.
        """
        best = [list(dict.fromkeys(item.hit.source.path for item in pool.ranked()[:3]))[:2] for _, pool, _ in answers]
        for index, (part, pool, _) in enumerate(answers):
            for other in best[index - 1] if index else best[1] if len(best) > 1 else []:
                self._ask(pool, part, "neighbour", self._weights.neighbour, other)

    def reformulate(self, pool: Pool, formulations: Sequence[str]) -> None:
        """Ask what a language model formulated."""
        for formulation in formulations:
            self._ask(pool, formulation, "model", self._weights.model)

    def _ask(self, pool: Pool, query: str, how: str, weight: float, source: str | None = None, mode: str = "hybrid") -> str:
        """Put a query to the base and add what it found; return the reason if it abstained."""
        if not query.strip() or weight <= 0:
            return ""
        key = (query, mode, source)
        if key not in self._answers:
            if len(self.asked) >= self._options.max_queries:
                return ""
            filters = self._filters if source is None else dataclasses.replace(self._filters, source=source)
            self.asked.append(query if source is None else f"{query} [in {source}]")
            result = self._base.query(query, self._options.per_query, filters, mode=mode, infer_target=False)
            self._answers[key] = (result.hits, result.reason if result.abstained else "")
        hits, reason = self._answers[key]
        pool.add(hits, how, weight)
        return reason

    def _ask_concepts(self, pool: Pool, part: str, need: float) -> None:
        """Ask with the terms of the concepts that the part names or describes; the less of its own words was found, the more they count."""
        for meant in self._thesaurus.meant(part, self._options.num_concepts):
            weight = self._weights.named if meant.is_named else self._weights.concept * meant.score * (0.5 + need)
            self._ask(pool, _with_terms(part, meant), "concept", weight)

    def _expand(self, pool: Pool, part: str) -> None:
        extra = feedback_terms(pool.ranked()[:5], part, self._options.num_expansions)
        if extra:
            self._ask(pool, f"{part} {' '.join(extra)}", "expansion", self._weights.expansion)

    def _descend(self, pool: Pool, part: str) -> None:
        """Look again inside the documents that hold most of the evidence."""
        for source in pool.documents()[: self._options.num_documents]:
            self._ask(pool, part, "section", self._weights.section, source)

    def _follow(self, pool: Pool, part: str) -> None:
        """Look into the documents that the best sections link to."""
        best = [item.hit.chunk_id for item in pool.ranked()[:5]]
        for source in self._atlas.linked(best, part)[: self._options.num_documents]:
            self._ask(pool, part, "link", self._weights.link, source)


def _with_terms(part: str, meant: Meant) -> str:
    return f"{part} {' '.join(term for term in meant.concept.terms[:4] if term.lower() != meant.phrase.lower())}"


def _merged(pools: Sequence[Pool], wanted: int) -> list[tuple[int, Evidence]]:
    """Return the sections of all parts by turns, with places at the end for those that came first for a formulation of a language model."""
    merged = take_turns([pool.ranked() for pool in pools], wanted)
    there = {key_of(item.hit) for _, item in merged}
    missing: dict[Key, tuple[int, Evidence]] = {}
    for index, pool in enumerate(pools):
        for item in pool.leaders("model"):
            if key_of(item.hit) not in there:
                missing.setdefault(key_of(item.hit), (index, item))
    reserved = list(missing.values())[: wanted // 2]
    return merged[: wanted - len(reserved)] + reserved


def _selected(advisor: Advisor, question: str, merged: Sequence[tuple[int, Evidence]]) -> list[int]:
    shown = [f"{' > '.join(item.hit.section_path)}\n{item.hit.text}" for _, item in merged]
    return list(advisor.select(question, shown))


def _finding(part: str, item: Evidence) -> Finding | None:
    claim = quote(item.hit.text, part)
    if not is_supported(claim, item.hit.text):
        return None
    return Finding(claim, part, item.hit, support(item.hit, part), max(item.how, key=lambda how: (item.how[how], how)))


def _section(rank: int, item: Evidence) -> RankedSection:
    return RankedSection(rank, item.score, item.hit, dict(item.how))
