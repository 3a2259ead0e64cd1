"""Measure deep search on a suite of questions: the sections it ranks, by type of question, what it leaves unanswered, and how many calls it took."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
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


@dataclass(frozen=True)
class AskReport:
    """Deep search on one suite."""

    suite: str
    questions: tuple[AskedQuestion, ...]

    def to_json(self) -> dict[str, Any]:  # Any: JSON
        """Return a JSON-ready mapping: rates by type, and every question."""
        return {
            "suite": self.suite,
            "through": "ask",
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
        return {
            "questions": len(mine),
            **rates,
            "unanswered": sum(not question.answered for question in mine) / len(mine),
            "calls": sum(question.num_calls for question in mine) / len(mine),
            "seconds": sum(question.seconds for question in mine) / len(mine),
        }

    def to_text(self) -> str:
        """Return a table."""
        names = [*(f"section@{cut}" for cut in CUTS), "unanswered", "calls", "seconds"]
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
        on_question: Called after each question.

    Raises:
        DocumentError: The suite is missing or broken, or has no questions.
    """
    read = read_suite(suite, split, limit)
    if not read.questions:
        raise DocumentError(str(suite), f"no question in split {split!r}")
    asked = []
    with KnowledgeBase.open(home, embedder=embedder, create=bring_in is not None) as base:
        if bring_in is not None:
            bring_in(base, read)
        search = DeepSearch(base, options, advisor)
        for question in read.questions:
            begin = time.perf_counter()
            brief = search.ask(question.text, Filters(target=question.target if use_targets else None))
            places = [(section.hit.source.path, section.hit.section_path) for section in brief.sections]
            found = {cut: is_found(question, places[:cut]) for cut in CUTS} if question.gold else {}
            asked.append(
                AskedQuestion(question.question_id, question.kind, found, bool(brief.findings), brief.calls, time.perf_counter() - begin)
            )
            if on_question is not None:
                on_question(asked[-1])
    return AskReport(suite.resolve().name, tuple(asked))


def is_found(question: Question, places: Sequence[tuple[str, tuple[str, ...]]]) -> bool:
    """Return whether the places hold one gold place, or all of them where the question needs all."""
    held = [any(gold.holds(source, path) for source, path in places) for gold in question.gold]
    return all(held) if question.needs_all else any(held)
