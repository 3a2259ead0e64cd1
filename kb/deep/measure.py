"""Measure deep search on a suite of questions: the sections it ranks, by type of question, what it leaves unanswered, and how many calls it took."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kb.deep_search import DeepSearch, DeepSearchOptions
from kb.errors import DocumentError
from kb.store import KnowledgeBase
from kb.suite import Question, Suite, read_suite
from kb.types import Filters

if TYPE_CHECKING:
    from kb.deep.advisor import Advisor

CUTS = (5, 10, 20)
"""A question counts as answered at each of these numbers of sections."""
ALL = "all"


@dataclass(frozen=True)
class AskedQuestion:
    """What deep search made of one question."""

    question_id: str
    kind: str
    found: Mapping[int, bool]
    """By number of sections looked at; empty where nothing answers the question."""
    answered: bool
    """False: the brief has no findings."""
    num_calls: int
    seconds: float
    has_document: bool | None = None
    """Whether the first ten sections hold the document, or all of them where all are needed; None where nothing answers the question."""
    model_calls: int = 0
    """How often a language model was asked."""


@dataclass(frozen=True)
class AskReport:
    """Deep search on one suite."""

    suite: str
    questions: tuple[AskedQuestion, ...]
    split: str = "all"
    num_documents: int = 0
    num_chunks: int = 0
    embedder: str = ""
    is_advised: bool = False
    """Whether a language model helped."""

    def to_json(self) -> dict[str, Any]:  # Any: JSON
        """Return a JSON-ready mapping: rates by type, and every question."""
        return {
            "suite": self.suite,
            "through": "ask",
            "split": self.split,
            "num_documents": self.num_documents,
            "num_chunks": self.num_chunks,
            "embedder": self.embedder,
            "is_advised": self.is_advised,
            "types": {kind: self.rates(kind) for kind in self.kinds()},
            "questions": [
                {**question.__dict__, "found": {str(cut): value for cut, value in question.found.items()}} for question in self.questions
            ],
        }

    def kinds(self) -> list[str]:
        """Return the types of questions, all of them first."""
        return [ALL, *sorted({question.kind for question in self.questions})]

    def rates(self, kind: str) -> dict[str, float]:
        """Return shares and means over the questions of a type: `section@k` over those that have an answer, `unanswered` over all."""
        mine = [question for question in self.questions if kind in (ALL, question.kind)]
        with_gold = [question for question in mine if question.found]
        rates = {f"section@{cut}": sum(question.found[cut] for question in with_gold) / len(with_gold) for cut in CUTS if with_gold}
        if with_gold:
            rates["document@10"] = sum(bool(question.has_document) for question in with_gold) / len(with_gold)
        return {
            "questions": len(mine),
            **rates,
            "unanswered": sum(not question.answered for question in mine) / len(mine),
            "calls": sum(question.num_calls for question in mine) / len(mine),
            "model_calls": sum(question.model_calls for question in mine) / len(mine),
            "seconds": sum(question.seconds for question in mine) / len(mine),
        }

    def to_text(self) -> str:
        """Return a table."""
        names = [*(f"section@{cut}" for cut in CUTS), "document@10", "unanswered", "calls", "model_calls", "seconds"]
        lines = [f"{self.suite} through ask", f"{'type':16s}{'n':>5s}" + "".join(f"{name:>12s}" for name in names)]
        for kind in self.kinds():
            rates = self.rates(kind)
            numbers = "".join(f"{rates[name]:12.3f}" if name in rates else f"{'':12s}" for name in names)
            lines.append(f"{kind:16s}{rates['questions']:5.0f}{numbers}")
        return "\n".join(lines)


def measure_ask(
    suite: Path,
    home: Path,
    embedder: str | None = None,
    limit: int | None = None,
    *,
    split: str = "all",
    bring_in: Callable[[KnowledgeBase, Suite], None] | None = None,
    use_targets: bool = True,
    options: DeepSearchOptions | None = None,
    advisor: Advisor | None = None,
    kinds: Sequence[str] | None = None,
    on_question: Callable[[AskedQuestion], None] | None = None,
) -> AskReport:
    """Ask every question of a suite and compare the ranked sections with its gold.

    Args:
        suite: A folder with `questions.jsonl`.
        home: Where the base is that holds the documents.
        embedder: See `KnowledgeBase.open`.
        limit: Only so many questions.
        split: `dev`, `held_out` or `all`.
        bring_in: Brings the suite's documents into the base first.
        use_targets: Give a question's target as a filter.
        options: How far each search goes.
        advisor: A language model.
        kinds: Only questions of these types; None: all.
        on_question: Called after each question.

    Raises:
        DocumentError: The suite is missing or broken, or has no questions.
    """
    read = read_suite(suite, split, limit)
    questions = [question for question in read.questions if not kinds or question.kind in kinds]
    if not questions:
        known = ", ".join(sorted({question.kind for question in read.questions}))
        raise DocumentError(str(suite), f"no question of type {', '.join(kinds or ())} in split {split!r}; types: {known}")
    asked = []
    with KnowledgeBase.open(home, embedder=embedder, create=bring_in is not None) as base:
        if bring_in is not None:
            bring_in(base, read)
        search = DeepSearch(base, options, advisor)
        for question in questions:
            begin = time.perf_counter()
            brief = search.ask(question.text, Filters(target=question.target if use_targets else None))
            places = [(section.hit.source.path, section.hit.section_path) for section in brief.sections]
            found = {cut: is_found(question, places[:cut]) for cut in CUTS} if question.gold else {}
            has_document = _has_documents(question, {source for source, _ in places[:10]}) if question.gold else None
            seconds = time.perf_counter() - begin
            asked.append(
                AskedQuestion(
                    question.question_id,
                    question.kind,
                    found,
                    bool(brief.findings),
                    brief.calls,
                    seconds,
                    has_document,
                    brief.model_calls,
                )
            )
            if on_question is not None:
                on_question(asked[-1])
        counts: Any = base.stats()  # Any: mixed values by name
        report = AskReport(
            suite.resolve().name,
            tuple(asked),
            split,
            int(counts["documents"]),
            int(counts["chunks"]),
            base.embedder().identity.name,
            advisor is not None,
        )
    return report


def _has_documents(question: Question, sources: AbstractSet[str]) -> bool:
    found = [any(gold.is_in(source) for source in sources) for gold in question.gold]
    return all(found) if question.needs_all else any(found)


def is_found(question: Question, places: Sequence[tuple[str, tuple[str, ...]]]) -> bool:
    """Return whether the places hold one gold place, or all of them where the question needs all."""
    held = [any(gold.holds(source, path) for source, path in places) for gold in question.gold]
    return all(held) if question.needs_all else any(held)
