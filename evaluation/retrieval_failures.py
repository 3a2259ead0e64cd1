"""List every question of a suite that retrieval fails, each with a reason that is computed from the ranking.

A question fails if not all that it needs is within the first five hits, if it is refused although something answers it, if it is answered although nothing
does, or if a document of another target is among the first three hits. A line names the failure, the ranks of the gold (of the default and of each leg alone;
null: not among a hundred), the share of the question's words that the gold shares, and the reason. A `note` written by hand into the file stays when it is
made again.

python -m evaluation.retrieval_failures evaluation/suites/retrieval --home HOME --out evaluation/results/retrieval/failures.jsonl
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kb.measure import DEPTH, has_wrong_target, matches
from kb.suite import Question, read_suite
from kb.types import Filters, Hit, QueryResult
from kb.words import STOP_WORDS, query_terms, stem

if TYPE_CHECKING:
    from kb.store import KnowledgeBase

FIRST = 5
FEW_WORDS = 0.4
"""A question that shares less than this share of its content words with its gold counts as a paraphrase."""


@dataclass(frozen=True)
class Failure:
    """One question that was not answered as it should be."""

    id: str
    split: str
    type: str
    target: str | None
    text: str
    failure: str
    """`behind` (not within the first hits), `refused`, `answered` (nothing answers it), `other_target`."""
    ranks: tuple[int | None, ...]
    """Of the gold in the default's order: one for each needed place, else the best."""
    dense_rank: int | None
    """Best rank of the worst placed gold in the embedder's order alone."""
    lexical_rank: int | None
    """The same in BM25's."""
    shared_words: float | None
    """Share of the question's content words, by their stems, in the passage of that gold that has most of them; None: no such passage was found."""
    first: str
    """Document and section of the first hit."""
    reason: str
    note: str = ""
    """Written by hand."""


def failures(base: KnowledgeBase, questions: Sequence[Question]) -> list[Failure]:
    """Return the failures of the default way of searching, in the questions' order; a question may fail in two ways."""
    return [failure for question in questions for failure in _failures(base, question)]


def _failures(base: KnowledgeBase, question: Question) -> list[Failure]:
    result = _ask(base, question, "hybrid")
    first = " > ".join((result.hits[0].source.path, *result.hits[0].section_path[1:])) if result.hits else ""
    plain = (question.question_id, question.split, question.kind, question.target, question.text)
    if not question.gold:
        reason = "all its names are known and passages hold some of its words, yet none states what is asked"
        return [] if result.abstained else [Failure(*plain, "answered", (), None, None, None, first, reason)]
    found = []
    ranks = _ranks(question, result.hits)
    needed = tuple(ranks) if question.needs_all else (_best(ranks),)
    if any(rank is None or rank > FIRST for rank in needed):
        legs = [_ranks(question, _ask(base, question, mode).hits) for mode in ("dense", "lexical")]
        worst = [_worst(question, leg, ranks) for leg in legs]
        shared = _shared(base, question, ranks)
        reason = _reason(question, needed, first, worst, shared)
        found.append(Failure(*plain, "behind", needed, worst[0], worst[1], shared, first, reason))
    if result.abstained:
        found.append(Failure(*plain, "refused", needed, None, None, None, first, f"refused: {result.reason}"))
    if has_wrong_target(question, result):
        found.append(
            Failure(*plain, "other_target", needed, None, None, None, first, "a passage of another target is among the first three")
        )
    return found


def _ask(base: KnowledgeBase, question: Question, mode: str) -> QueryResult:
    return base.query(question.text, DEPTH, Filters(target=question.target), mode=mode)


def _ranks(question: Question, hits: Sequence[Hit]) -> list[int | None]:
    """Return the first rank of each gold place."""
    ranks: list[int | None] = [None] * len(question.gold)
    for rank, hit in enumerate(hits, start=1):
        for index in matches(question, hit):
            ranks[index] = ranks[index] or rank
    return ranks


def _worst(question: Question, leg: Sequence[int | None], ranks: Sequence[int | None]) -> int | None:
    """Return the rank in one leg of the place that the default has furthest down, or of the best place where any is enough."""
    if question.needs_all:
        return leg[_furthest(ranks)]
    return _best(leg)


def _best(ranks: Sequence[int | None]) -> int | None:
    return min((rank for rank in ranks if rank), default=None)


def _furthest(ranks: Sequence[int | None]) -> int:
    """Return the position of the worst rank; None is worse than any."""
    return max(range(len(ranks)), key=lambda index: ranks[index] or DEPTH + 1)


def _shared(base: KnowledgeBase, question: Question, ranks: Sequence[int | None]) -> float | None:
    """Return the share of the question's words that the passages of its (worst placed) gold hold, the heading path included."""
    terms = {stem(term) for term in query_terms(question.text) if term not in STOP_WORDS}
    golds = question.gold
    if question.needs_all:
        golds = (golds[_furthest(ranks)],)
    shares = []
    for gold in golds:
        hits = base.query(f"{gold.section} {question.text}", DEPTH, Filters(source=gold.document)).hits
        there = [hit for hit in hits if gold.holds(hit.source.path, hit.section_path)]
        words = [{stem(term) for term in query_terms(f"{' '.join(hit.section_path)} {hit.context} {hit.text}")} for hit in there]
        shares += [len(terms & held) / len(terms) for held in words if terms]
    return round(max(shares), 2) if shares else None


def _reason(question: Question, needed: Sequence[int | None], first: str, legs: Sequence[int | None], shared: float | None) -> str:
    places = f"embedder rank {legs[0] or 'beyond 100'}, BM25 rank {legs[1] or 'beyond 100'}"
    if question.needs_all:
        there = sum(rank is not None and rank <= FIRST for rank in needed)
        last = "beyond 100" if None in needed else max(rank for rank in needed if rank is not None)
        return f"needs {len(needed)} sections, {there} within {FIRST}, the last at rank {last}: the question's words are spread over them ({places} for that one)"
    rank = needed[0]
    words = "" if shared is None else f"; its answer has {shared:.0%} of its words"
    if shared is not None and shared < FEW_WORDS:
        return f"paraphrase: few words shared{words.replace('; its answer has', ',')}; rank {rank or 'beyond 100'} ({places})"
    if rank is not None and rank <= 2 * FIRST:
        return f"rank {rank}, just behind passages of neighbouring subjects such as {first}{words} ({places})"
    return f"other passages fit its words better, such as {first}{words}; rank {rank or 'beyond 100'} ({places})"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command: write the failures of a suite as JSON lines, and keep the notes of an earlier list."""
    from kb.store import KnowledgeBase

    parser = argparse.ArgumentParser(
        prog="python -m evaluation.retrieval_failures", description=__doc__.splitlines()[0] if __doc__ else None
    )
    parser.add_argument("suite", type=Path)
    parser.add_argument("--home", type=Path, required=True, help="the suite's base, as `kb eval --home` left it")
    parser.add_argument("--split", default="all")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args(arguments)
    notes: dict[tuple[str, str], str] = {}
    if given.out.is_file():
        rows = [json.loads(line) for line in given.out.read_text(encoding="utf-8").splitlines() if line]
        notes = {(row["id"], row["failure"]): row.get("note", "") for row in rows}
    with KnowledgeBase.open(given.home) as base:
        listed = failures(base, read_suite(given.suite, given.split).questions)
    lines = [json.dumps({**asdict(one), "note": notes.get((one.id, one.failure), "")}, ensure_ascii=False) for one in listed]
    given.out.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
