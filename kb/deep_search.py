"""Deep search by rules: a question taken apart, asked in several ways, followed into sections and along links, until its parts are answered.

Every claim of the brief is quoted from the chunk it cites. The number of queries is bounded. Nothing here needs a language model.
"""

from __future__ import annotations

import dataclasses
import posixpath
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import text

from kb.abstention import support
from kb.brief import Brief, Finding
from kb.target_words import named_target
from kb.types import Filters, Hit
from kb.words import STOP_WORDS, looks_like_name, query_terms, stem, tokens, words

if TYPE_CHECKING:
    from kb.store import KnowledgeBase

__all__ = ["Brief", "DeepSearch", "DeepSearchOptions", "Finding", "decompose", "quote"]

_SPLIT = re.compile(
    r"[?;\n]+|,?\s+(?:and|but|as well as)\s+(?=(?:what|which|how|why|when|where|who|is|are|does|do|can|should)\b)|\.\s+(?=[A-Z])",
    re.IGNORECASE,
)
_SENTENCE = re.compile(r"(?<=[.!?])\s+|\n\s*\n|\n(?=\s*[-*|])")

ENOUGH = 0.75
"""A part counts as answered when a finding holds this share of its content words."""
LEAST = 0.34
"""Below this share a passage is no answer unless it is near in meaning."""
CLAIM_CHARACTERS = 420


@dataclass(frozen=True)
class DeepSearchOptions:
    """How far a deep search goes."""

    max_queries: int = 24
    """Most queries put to the base."""
    per_query: int = 8
    """Hits looked at per query."""
    num_findings: int = 10
    """Most findings in the brief."""
    num_expansions: int = 4
    """Words taken from the best passages to ask again with."""


@dataclass
class _Seen:
    """A chunk met during the search."""

    hit: Hit
    value: float
    how: str


class DeepSearch:
    """Answers questions with cited briefs.

    Args:
        base: What is searched.
        options: How far it goes.
    """

    def __init__(self, base: KnowledgeBase, options: DeepSearchOptions | None = None) -> None:
        self._base = base
        self._options = options or DeepSearchOptions()

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
        session = _Session(self._base, filters, self._options)
        answered: list[tuple[str, list[_Seen]]] = []
        not_found: list[str] = []
        subject = [word for word in words(question) if looks_like_name(word)]
        for part in parts:
            seen, reason = session.answer(part, question, subject)
            if reason:
                not_found.append(f"{part}: {reason}")
            answered.append((part, [] if reason else seen))
        findings = self._findings(answered)
        return Brief(question, tuple(parts), tuple(findings), tuple(not_found), tuple(session.asked))

    def _findings(self, answered: Sequence[tuple[str, list[_Seen]]]) -> list[Finding]:
        """Take turns between the parts, so that each is represented."""
        findings: list[Finding] = []
        used: set[str] = set()
        for rank in range(max((len(seen) for _, seen in answered), default=0)):
            for part, seen in answered:
                if rank < len(seen) and seen[rank].hit.chunk_id not in used and len(findings) < self._options.num_findings:
                    hit = seen[rank].hit
                    used.add(hit.chunk_id)
                    findings.append(Finding(quote(hit.text, part), part, hit, support(hit, part), seen[rank].how))
        return findings


class _Session:
    """The state of one deep search."""

    def __init__(self, base: KnowledgeBase, filters: Filters, options: DeepSearchOptions) -> None:
        self._base = base
        self._filters = filters
        self._options = options
        self.asked: list[str] = []

    def answer(self, part: str, question: str, subject: Sequence[str]) -> tuple[list[_Seen], str]:
        """Return what answers a part, best first, and why nothing does (empty if something does)."""
        seen: dict[str, _Seen] = {}
        first = self._ask(part, "query", seen, 1.0, part)
        named = " ".join(dict.fromkeys([*subject, *query_terms(part)]))
        if subject and not any(name in part for name in subject):
            self._ask(f"{part} {' '.join(subject)}", "query", seen, 0.9, part)
        self._ask(named, "query", seen, 0.7, part)
        if part != question:
            self._ask(question, "query", seen, 0.4, part)
        self._descend(part, seen)
        self._follow(part, seen)
        if not self._is_answered(part, seen):
            extra = self._expansions(part, seen)
            if extra:
                self._ask(f"{part} {' '.join(extra)}", "expansion", seen, 0.6, part)
                self._ask(" ".join(extra), "expansion", seen, 0.3, part)
        ranked = sorted(seen.values(), key=lambda item: (-item.value, item.hit.chunk_id))
        if not ranked:
            return [], "the base holds nothing within these filters"
        return ranked, first or ""

    def _ask(self, query: str, how: str, seen: dict[str, _Seen], weight: float, part: str, source: str | None = None) -> str:
        """Put a query to the base; return the reason if it abstained."""
        if len(self.asked) >= self._options.max_queries or not query.strip():
            return ""
        filters = self._filters if source is None else dataclasses.replace(self._filters, source=source)
        self.asked.append(query if source is None else f"{query} [in {source}]")
        result = self._base.query(query, self._options.per_query, filters, infer_target=False)
        for hit in result.hits:
            value = weight * (1.0 / (2 + hit.rank)) + 0.25 * weight * support(hit, part)
            known = seen.get(hit.chunk_id)
            if known is None:
                seen[hit.chunk_id] = _Seen(hit, value, how)
            else:
                known.value += value
        return result.reason if result.abstained else ""

    def _descend(self, part: str, seen: dict[str, _Seen]) -> None:
        """Look again inside the documents that hold most of what was found."""
        totals: dict[str, float] = {}
        for item in seen.values():
            totals[item.hit.source.path] = totals.get(item.hit.source.path, 0.0) + item.value
        for source in sorted(totals, key=lambda name: (-totals[name], name))[:2]:
            self._ask(part, "section", seen, 0.35, part, source)

    def _follow(self, part: str, seen: dict[str, _Seen]) -> None:
        """Look into the documents that the best passages link to."""
        best = sorted(seen.values(), key=lambda item: (-item.value, item.hit.chunk_id))[:3]
        for source in self._linked([item.hit.chunk_id for item in best])[:2]:
            self._ask(part, "link", seen, 0.35, part, source)

    def _linked(self, chunk_ids: Sequence[str]) -> list[str]:
        known = {stored.source for stored in self._base.documents()}
        found: dict[str, None] = {}
        with self._base.catalogue.read() as connection:
            for chunk_id in chunk_ids:
                rows = connection.execute(
                    text(
                        "SELECT d.source, l.address FROM chunks c JOIN links l ON l.section_id = c.section_id "
                        "JOIN documents d ON d.document_id = c.document_id WHERE c.chunk_id = :id ORDER BY l.position"
                    ),
                    {"id": chunk_id},
                )
                for source, address in rows:
                    target = posixpath.normpath(posixpath.join(posixpath.dirname(str(source)), str(address).partition("#")[0]))
                    if target in known and target != source:
                        found[target] = None
        return list(found)

    def _is_answered(self, part: str, seen: dict[str, _Seen]) -> bool:
        return any(support(item.hit, part) >= ENOUGH for item in seen.values())

    def _expansions(self, part: str, seen: dict[str, _Seen]) -> list[str]:
        """Return words that several of the best passages share and the part lacks (pseudo relevance feedback, Lavrenko and Croft 2001)."""
        mine = set(query_terms(part))
        counts: dict[str, int] = {}
        for item in sorted(seen.values(), key=lambda entry: (-entry.value, entry.hit.chunk_id))[:5]:
            heading = " ".join(item.hit.section_path)
            for term in set(tokens(f"{heading} {item.hit.text[:600]}")) - STOP_WORDS - mine:
                if len(term) > 2 and not term.isdigit():
                    counts[term] = counts.get(term, 0) + (2 if term in tokens(heading) else 1)
        ranked = sorted(counts, key=lambda term: (-counts[term], term))
        return [term for term in ranked if counts[term] > 1][: self._options.num_expansions]


def decompose(question: str) -> list[str]:
    """Return the questions that a question consists of; a part without content words of its own is joined to the one before."""
    parts: list[str] = []
    for piece in _SPLIT.split(question):
        cleaned = piece.strip(" ,.")
        if not cleaned:
            continue
        if parts and len([term for term in query_terms(cleaned) if term not in STOP_WORDS]) < 2:
            parts[-1] = f"{parts[-1]}, {cleaned}"
        else:
            parts.append(cleaned)
    return parts


def quote(passage: str, part: str) -> str:
    """Return the sentences of a passage that answer a part, verbatim, in their order, within a length for reading."""
    sentences = [sentence.strip() for sentence in _SENTENCE.split(passage) if sentence.strip()]
    terms = {stem(term) for term in query_terms(part) if term not in STOP_WORDS}
    values = [len(terms & {stem(term) for term in query_terms(sentence)}) for sentence in sentences]
    chosen: set[int] = set()
    length = 0
    for index in sorted(range(len(sentences)), key=lambda position: (-values[position], position)):
        if chosen and (length + len(sentences[index]) > CLAIM_CHARACTERS or values[index] == 0):
            continue
        chosen.add(index)
        length += len(sentences[index])
    return " ".join(sentences[index][: 2 * CLAIM_CHARACTERS] for index in sorted(chosen))
