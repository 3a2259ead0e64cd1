"""Whether the base answers a query at all, judged by evidence rather than by a score.

A score threshold cannot do this: an unanswerable question finds text as near as an answerable one does. What counts instead:

- the query names something that the base has never heard of. A question stands or falls with what it names; a statement (a claim to be checked, a symptom)
  says more than its names, so there most of it has to be unknown. A name of several words (`Core ML`) is unknown if no chunk has all of them;
- it asks for a property of something known, and no word for the property occurs anywhere in the base;
- it asks for a quantity in a kind of unit (a price, an energy, a temperature) and no passage found holds a number of that kind;
- what was found neither covers its words nor comes near in meaning: of a whole question, or of anything else of which a large share occurs nowhere in the base.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from sqlalchemy import Connection, bindparam, text

from kb import fulltext
from kb.retrieval import Candidate
from kb.types import Hit
from kb.words import STOP_WORDS, looks_like_name, query_terms, split_identifier, stem, tokens, words

UNKNOWN_SHARE = 0.3
"""Without at least this share of a fragment's or statement's information in words that the base does not have, there is no ground for abstaining."""
EVIDENCE = 0.38
"""Least coverage + similarity - unknown share / 2. On 30 answerable and 20 unanswerable questions about our own documents, asked for this purpose: the
answerable ones have 0.42 and more, 14 of the unanswerable ones less than 0.38."""
QUESTION_EVIDENCE = 0.5
"""The same where the query is a whole question, whatever it shares with the base word by word: it has words for what it wants, which a symptom or a fragment may lack.
Of 350 answerable development questions about our own documents and the manuals, the whole ones have 0.6 and more."""
LEAST_WORDS = 4
"""A question with fewer content words says too little to be refused because no passage has them."""
HITS_LOOKED_AT = 5
STATEMENT_SHARE = 0.5
"""A statement is refused for the names it uses only if at least this share of its information is unknown."""
QUANTITY_HITS = 10
LEAST_PROPERTIES = 2
"""With fewer words for what it asks about, a question is not refused because the base lacks them: `How large is …` asks for a number."""
_FILLERS = frozenset(
    re.findall(
        r"\w+",
        """
    big deep difference different far fast good happen happens high kind large long low many mean means much need needs often
    old possible quickly slow small sort start take takes wide work works
""",
    )
)
"""Words of asking: that the base lacks one of them says nothing."""
COMPOUND_CHUNKS = 20
"""So many of the chunks that match the words of a name are read for all of them together."""

_QUESTION = re.compile(
    r"\?|^\W*(?:what|which|who|whose|whom|where|when|why|how|is|are|was|were|do|does|did|can|could|may|should|will|would|has|have)\b", re.I
)
_FINITE = re.compile(r"\b(?:is|are|was|were|does|do|did|has|have|had|can|cannot|may|might|must|will|would)\b", re.I)

_ASKING = re.compile(r"^\W*(?:what|which|who|where|when|why|how|is|are|was|were|do|does|did|can|could|may|should)\b", re.I)
_WORD = re.compile(r"\w[\w.+/-]*")
_COMMON = frozenset({"api", "apis", "cpu", "cpus", "gpu", "gpus", "i", "os", "pc", "ram"})
"""Written in capitals, but no part of a name."""

_NUMBER = r"\d[\d,.]*\s*"
_QUANTITIES: tuple[tuple[str, re.Pattern[str], re.Pattern[str]], ...] = (
    (
        "a price",
        re.compile(
            r"\bprices?\b|\b(?:dollars?|euros?|USD|EUR)\b|\bcosts?\b.{0,30}\bper (?:hour|month|year)\b|\bhow much (?:does|do) .* cost\b",
            re.I,
        ),
        re.compile(rf"[$€£]\s*\d|{_NUMBER}(?:dollars?|euros?|USD|EUR)\b", re.I),
    ),
    (
        "an energy",
        re.compile(r"\b(?:pico|nano|micro|milli|kilo)?joules?\b|\b[pn]J\b|\bwatt[ -]hours?\b", re.I),
        re.compile(rf"{_NUMBER}(?:[pnµumk]?J|(?:pico|nano|micro|milli|kilo)?joules?|k?Wh)\b"),
    ),
    (
        "a power",
        re.compile(r"\bthermal design power\b|\bTDP\b|\b(?:how many|in) (?:kilo|milli)?watts?\b", re.I),
        re.compile(rf"{_NUMBER}(?:[km]?W|(?:kilo|milli)?watts?)\b"),
    ),
    (
        "a temperature",
        re.compile(r"\bdegrees? (?:celsius|fahrenheit)\b|\b(?:boiling|melting|operating|junction) (?:point|temperature)\b", re.I),
        re.compile(rf"{_NUMBER}(?:°\s*[CF]|degrees?|[CK])\b", re.I),
    ),
    (
        "a time in nanoseconds",
        re.compile(r"\bnanoseconds?\b|\bin ns\b", re.I),
        re.compile(rf"{_NUMBER}(?:ns|nanoseconds?)\b", re.I),
    ),
    (
        "a number of cycles",
        re.compile(r"\bhow many (?:\w+ )?cycles\b", re.I),
        re.compile(
            r"\b(?:\d[\d,.]*|one|two|three|four|five|six|seven|eight|single)\b[^.\n]{0,60}\bcycles?\b|\bcycles?\b[^.\n]{0,60}\d", re.I
        ),
    ),
)
"""What a question may ask for: its name, how the question says so, how a passage states it."""


_TEXTS = text(
    "SELECT c.section_path, c.context, c.text, d.source, d.title FROM chunks c JOIN documents d ON d.document_id = c.document_id WHERE c.number IN :numbers"
).bindparams(bindparam("numbers", expanding=True))


def _why_none(connection: Connection) -> str:
    if connection.execute(text("SELECT 1 FROM chunks LIMIT 1")).first() is None:
        return "the base is empty: `kb ingest DIRECTORY` brings documents in"
    return "the base holds no document within these filters"


def judge(connection: Connection, query: str, candidates: Sequence[Candidate], hits: Sequence[Hit]) -> tuple[bool, str]:
    """Return whether to abstain, and why in one sentence."""
    if not hits:
        return True, "nothing found" if candidates else _why_none(connection)
    weights, absent = _information(connection, query)
    total = sum(weights.values())
    unknown_share = sum(weights[term] for term in absent) / total if total else 0.0
    unknown = unknown_names(connection, query)
    if not unknown and not is_statement(query):
        unknown = unknown_compounds(connection, query)
    if unknown and (not is_statement(query) or unknown_share >= STATEMENT_SHARE):
        return True, f"the base does not know {', '.join(repr(name) for name in unknown)}"
    quantity = missing_quantity(query, hits)
    if quantity:
        return True, f"the question asks for {quantity}, and no passage found states one"
    if not total:
        return False, ""
    properties = _properties(query)
    if len(properties) >= LEAST_PROPERTIES and all(word in absent for word in properties) and not is_statement(query):
        return True, f"the base says nothing about {', '.join(repr(word) for word in properties)}"
    is_whole = _ASKING.search(query) is not None
    if unknown_share < UNKNOWN_SHARE and not (is_whole and len(weights) >= LEAST_WORDS):
        return False, ""
    similarity = max((candidate.similarity for candidate in candidates[:20] if candidate.similarity is not None), default=None)
    coverage = max(_coverage(hit, weights) for hit in hits[:HITS_LOOKED_AT]) / total
    if coverage + (similarity if similarity is not None else 0.5) - unknown_share / 2 < (QUESTION_EVIDENCE if is_whole else EVIDENCE):
        missing = ", ".join(repr(term) for term in absent)
        nowhere = f"; {missing} {'occurs' if len(absent) == 1 else 'occur'} nowhere in the base" if absent else ""
        return True, f"nothing found covers the question{nowhere}"
    return False, ""


def is_statement(query: str) -> bool:
    """Return whether a query states something rather than asks: no question mark or question word at its beginning, and a finite verb or a full stop."""
    if _QUESTION.search(query):
        return False
    return query.rstrip().endswith(".") or _FINITE.search(query) is not None


def missing_quantity(query: str, hits: Sequence[Hit]) -> str:
    """Return the kind of quantity that a query asks for and no hit states; empty if there is none such."""
    for name, asked, stated in _QUANTITIES:
        if asked.search(query) and not any(stated.search(f"{hit.context}\n{hit.text}") for hit in hits[:QUANTITY_HITS]):
            return name
    return ""


def support(hit: Hit, part: str) -> float:
    """Return the share of a question's content words, by their stems, that the hit or its heading path holds."""
    terms = [term for term in query_terms(part) if term not in STOP_WORDS]
    if not terms:
        return 0.0
    return _coverage(hit, dict.fromkeys(terms, 1.0)) / len(set(terms))


def _coverage(hit: Hit, weights: dict[str, float]) -> float:
    there = {stem(term) for term in query_terms(f"{' '.join(hit.section_path)}\n{hit.context}\n{hit.text}")}
    return sum(weight for term, weight in weights.items() if stem(term) in there)


def _information(connection: Connection, query: str) -> tuple[dict[str, float], list[str]]:
    """Return the inverse document frequency of each content word of the query, and those that occur nowhere."""
    num_chunks = fulltext.num_chunks(connection)
    weights: dict[str, float] = {}
    absent = []
    for term in query_terms(query)[:64]:
        if term not in STOP_WORDS:
            found = fulltext.num_matching(connection, term)
            if not found and term in _FILLERS:
                continue
            weights[term] = math.log(1 + num_chunks / (1 + found))
            if not found:
                absent.append(term)
    return weights, absent


def unknown_names(connection: Connection, query: str) -> list[str]:
    """Return the names in a query (identifiers, product names, model numbers) that occur nowhere in the base, whole or in their parts."""
    unknown = []
    found = words(query)
    is_question = _ASKING.search(query) is not None
    is_heading = len(found) > 1 and not is_question and found[1].lower() not in STOP_WORDS
    for position, word in enumerate(found):
        if not _is_name(word, position + is_heading) or fulltext.num_matching(connection, word):
            continue
        if not _is_own(connection, word, is_question):
            unknown.append(word)
    return list(dict.fromkeys(unknown))


def _is_own(connection: Connection, word: str, is_question: bool) -> bool:
    """Return whether a name that the base does not have may be the asker's own: an identifier made of words that the base knows.

    One in capitals is a macro or a variable of the environment, which somebody has published. In what was pasted (an error, a profile) half of the words are enough.
    """
    parts = [part for piece in tokens(word) for part in (split_identifier(piece) or [piece])]
    if len(parts) < 2 or any(character.isdigit() for character in word) or ("_" in word and word.isupper()):
        return False
    known = sum(bool(fulltext.num_matching(connection, part)) for part in parts)
    return known == len(parts) or ("_" in word.strip("_") and not is_question and 2 * known >= len(parts))


def compounds(query: str) -> list[tuple[str, ...]]:
    """Return the names of several words in a query: runs of words in capitals or numbers that begin with a capital, the query's first word left out."""
    found: list[tuple[str, ...]] = []
    run: list[str] = []
    end = 0
    for match in _WORD.finditer(query):
        word = match.group().rstrip("./-")
        is_part = match.start() > 0 and (word[:1].isupper() or word[:1].isdigit()) and word.lower() not in STOP_WORDS | _COMMON
        if not is_part or query[end : match.start()].strip():
            found.append(tuple(run))
            run = []
        if is_part:
            run.append(word)
        end = match.end()
    return [names for names in (*found, tuple(run)) if len(names) > 1 and names[0][0].isupper()]


def unknown_compounds(connection: Connection, query: str) -> list[str]:
    """Return the first two words of each name of several words that stand together in no chunk, nor in its path."""
    unknown = []
    for first, second, *_ in compounds(query):
        terms = [*tokens(first), *tokens(second)]
        written = {word for word in (first, second) if not word.isdigit()}
        best = [number for number, _ in fulltext.search(connection, terms, COMPOUND_CHUNKS, "", {})]
        texts = [" ".join(str(value) for value in row) for row in connection.execute(_TEXTS, {"numbers": best})] if best else []
        if not any(set(terms) <= set(tokens(there)) and all(word in there for word in written) for there in texts):
            unknown.append(f"{first} {second}")
    return unknown


def _properties(query: str) -> list[str]:
    """Return what a query asks about what it names: its content words but for the names; empty if it names nothing."""
    content = [word for word in words(query) if word.lower() not in STOP_WORDS]
    plain = [word for word in content if not looks_like_name(word)]
    return [token for word in plain for token in tokens(word) if token not in STOP_WORDS] if len(plain) < len(content) else []


def _is_name(word: str, position: int) -> bool:
    if len(word) < 3 or word.replace(".", "").replace("-", "").isdigit():
        return False
    if looks_like_name(word):
        return True
    return position > 0 and word[0].isupper() and word[1:].islower() and word.lower() not in STOP_WORDS
