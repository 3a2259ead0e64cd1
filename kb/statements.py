"""Numbers that documents state: "shared memory per block is 227 KB", or a cell of a table. Made for telling where two documents contradict each other.

Precise rather than complete: a sentence counts only if it has one number, a known unit and a subject of its own (no "it", no condition that the subject does
not carry). What was read is an interval in the unit's base: `227 KB` is 226.5 to 227.5 times 1,000 or 1,024 bytes, `about 3 TB/s` is 10 % wide to both sides; two
statements disagree only if no reading lets their intervals meet.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from kb.target_words import named_target
from kb.types import Chunk
from kb.words import STOP_WORDS, stem

VERSION = "1"
"""Changes when the same text would be read differently."""

MAX_SUBJECT_WORDS = 9
MIN_SUBJECT_WORDS = 2
ROUGH = 0.1
"""Half width of what "about" says."""

_DECIMAL = {"k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12, "p": 1e15}
_COUNTED = (
    "bank|lane|thread|warp|wavefront|register|sm|cu|core|entry|way|element|bit|channel|cycle|instruction|stage|port|slot|unit|row|column|dimension|tile|block|"
    "subcore|wave|engine|stack|partition|slice|page|line|sector|die|chiplet|xcd"
)
_UNIT = re.compile(
    r"(?P<bytes>(?:[KMGTP]i?)?B\b|(?:kilo|mega|giga|tera)?bytes?\b)(?P<per>\s?/\s?s(?:ec(?:ond)?)?\b|\s+per\s+second\b|\s?/\s?(?:clk|clock|cycle)\b|\s+per\s+(?:clock|cycle)\b)?"
    r"|(?P<hertz>[kMG]?Hz\b)|(?P<flops>[KMGTP]?FLOPS\b|[KMGTP]FLOP/s\b|[KMGTP]OPS\b)|(?P<time>ns\b|us\b|µs\b|μs\b|ms\b|nanoseconds?\b|microseconds?\b|milliseconds?\b|seconds?\b)"
    r"|(?P<watt>k?W\b|watts?\b)|(?P<percent>%|percent\b)|(?P<count>(?:\d+-bit\s+)?(?:" + _COUNTED + r")(?:s|es)?\b)",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"(?<![\w.,/^~≤≥<>=×x*+-])(?:~\s?)?(\d{1,3}(?:,\d{3})+|\d+)(\.\d+)?(?![\w.]*\d)")
_ANY_DIGIT = re.compile(r"\d")
_VERB = re.compile(r"\b(?:is|are|has|have|holds|hold|provides|offers|equals|contains|contain|allows|supports|reaches|takes|of)\b|:|=")
_VAGUE = re.compile(
    r"\b(?:it|its|this|that|these|those|they|their|there|which|who|each other|same|such|one|another|other|others|some|any|every time|example|e\.g|i\.e|if|when|while|unless|"
    r"suppose|assume|consider|say|was|were|would|could|should|might|may|can|must|had|used|using|use|only|more|less|fewer|than|times|faster|slower|not|no|without|between|"
    r"from|increase\w*|decrease\w*|reduc\w*|improv\w*|measured|we|you|our|your|i|former|latter|here|above|below|following|first|second|last|next|previous|default|because|since)\b",
    re.IGNORECASE,
)
_ROUGH = re.compile(r"\b(?:about|around|roughly|approximately|nearly|almost|some|circa|ca\.)\s*$|~\s*$", re.IGNORECASE)
_BOUND = re.compile(r"\b(?:up to|at most|maximum(?: of)?|max(?:imum)?\.?|no more than|limit(?:ed)?(?: to)?|peak)\b", re.IGNORECASE)
_LEAST = re.compile(r"\b(?:at least|minimum(?: of)?|min\.?|no less than)\b", re.IGNORECASE)
_INEQUALITY = re.compile(r"[≤≥<>]\s*$")
_OPEN = re.compile(r"^\s*(?:-|–|—|to\b|or\b|and\b|,\s*\d|/\s*\d|\.\.|x\s*\d|×|\*|\^|\+|per\b(?!\s+(?:second|clock|cycle)))", re.IGNORECASE)
_SENTENCE = re.compile(r"(?<=[.!?;])\s+(?=[A-Z`*\[(])|\n\s*\n|\n\s*(?:[-*+]|\d+[.)])\s+")
_MARKUP = re.compile(r"`|\*\*|__|\[([^\]]*)\]\([^)]*\)|<[^>]+>|\^\[[^\]]*\]|\[\d+\]")
_WORD = re.compile(r"[A-Za-z][A-Za-z0-9_+./-]*|\d[\w.]*(?:-bit)?")
_EMPTY = re.compile(
    r"total|size|value|number|count|amount|capacity|limit|maximum|max|minimum|min|peak|up|most|least|about|exactly|also|now|then|still|both|all|physical|"
    r"available|each|single|has|have|holds?|provides|offers|equals|contains?|allows|supports|reaches|takes"
)


@dataclass(frozen=True)
class Statement:
    """A number that a chunk states."""

    subject: str
    """Stems of the content words it is about, sorted; equal means the same subject."""
    unit: str
    """Kind of quantity: `bytes`, `bytes/s`, `Hz`, a counted noun, …; `bytes:2` where a prefix (M, the second) may be decimal or binary."""
    scope: str
    """Target that the words name (`cuda:sm_90`), empty if none."""
    low: float
    """Least value that was meant, in the unit's base, an ambiguous prefix read as decimal."""
    high: float
    line: int
    """Line in the source."""
    quote: str
    """The sentence, or label and cell."""

    @property
    def kind(self) -> str:
        """The unit without its prefix."""
        return self.unit.partition(":")[0]

    def contradicts(self, other: Statement) -> bool:
        """Return whether both cannot be true in any reading, given that they are about the same thing; the same prefix is read the same way."""
        mine, yours = self._readings(), other._readings()
        pairs = zip(mine, yours, strict=True) if self.unit == other.unit else itertools.product(mine, yours)
        return not any(_meet(one, another) for one, another in pairs)

    def _readings(self) -> list[tuple[float, float]]:
        power = self.unit.partition(":")[2]
        ratios = (1.0, 1.024 ** int(power)) if power else (1.0,)
        return [(self.low * ratio, self.high * ratio) for ratio in ratios]


def _meet(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return one == other or (one[0] < other[1] and other[0] < one[1])


def statements_in(chunk: Chunk) -> tuple[Statement, ...]:
    """Return what a chunk states; code states nothing."""
    if chunk.block == "code":
        return ()
    heading = " > ".join(chunk.section_path)
    found: list[Statement] = []
    lines = chunk.text.split("\n")
    table: list[tuple[int, list[str]]] = []
    prose: list[str] = []
    header = [_cells(line) for line in chunk.context.split("\n") if "|" in line] if chunk.context else []
    fenced = False
    for number, line in enumerate(lines):
        if line.lstrip().startswith(("```", "~~~")):
            fenced = not fenced
        is_row = line.count("|") >= 2 and not fenced
        if is_row:
            table.append((number, _cells(line)))
        prose.append("" if is_row or fenced or line.lstrip().startswith(("```", "~~~", "#")) or line.startswith("    ") else line)
    if table:
        rows = [(-1, cells) for cells in header] + table
        found += _in_table(rows, heading, chunk.line_start)
    position = 0
    text = "\n".join(prose)
    for part in _SENTENCE.split(text):
        begin = text.find(part, position)
        position = begin + len(part)
        statement = _in_sentence(part, heading, chunk.line_start + text.count("\n", 0, begin))
        if statement is not None:
            found.append(statement)
    return tuple(found)


def _in_sentence(sentence: str, heading: str, line: int) -> Statement | None:
    plain = " ".join(_MARKUP.sub(lambda match: match.group(1) or "", sentence).split()).strip(" -*+")
    if len(plain) > 240:
        return None
    quantity = _quantity(plain)
    if quantity is None:
        return None
    unit, low, high, begin, end = quantity
    before, after = plain[:begin], plain[end:].rstrip(" .;)")
    verbs = list(_VERB.finditer(before))
    if not verbs or _VAGUE.search(before) or _VAGUE.search(after) or _OPEN.match(after) or "(" in after or "," in after:
        return None
    if verbs[-1].group() == "of" and len(verbs) == 1:
        return None
    subject = _subject(f"{before} {after}", unit)
    if subject is None:
        return None
    scope = named_target(plain) or named_target(heading) or ""
    return Statement(subject, unit, scope, low, high, line, plain)


def _in_table(rows: Sequence[tuple[int, list[str]]], heading: str, first_line: int) -> Iterator[Statement]:
    """Yield the statements of rows whose cell is a number with a unit (in the cell, its column's header or its row's label)."""
    head: list[str] = []
    for index, (number, cells) in enumerate(rows):
        if index + 1 < len(rows) and _is_rule(rows[index + 1][1]):
            head = [_clean(cell) for cell in cells]
            continue
        if _is_rule(cells) or not head or number < 0 or len(cells) != len(head) or len(cells) < 2:
            continue
        label = _clean(cells[0])
        for column in range(1, len(cells)):
            cell = _clean(cells[column])
            name = "" if len(cells) == 2 else head[column]
            statement = _in_cell(label, name, cell, heading, first_line + number)
            if statement is not None:
                yield statement


def _in_cell(label: str, column: str, cell: str, heading: str, line: int) -> Statement | None:
    quantity = _quantity(cell)
    text = f"{label} {column}"
    if quantity is None and re.fullmatch(r"[\d.,]+", cell):
        unit = re.search(r"[(\[]([^)\]]+)[)\]]", column) or re.search(r"[(\[]([^)\]]+)[)\]]", label)
        if unit is None:
            return None
        quantity = _quantity(f"{cell} {unit.group(1)}")
        text = text.replace(unit.group(0), " ")
        rest = ""
    elif quantity is not None:
        rest = cell[: quantity[3]] + cell[quantity[4] :]
    if quantity is None or _VAGUE.search(text) or len(rest.split()) > 3 or re.search(r"[,;(/]", rest):
        return None
    unit_name, low, high, _, _ = quantity
    subject = _subject(f"{text} {rest}", unit_name)
    if subject is None:
        return None
    scope = named_target(text) or named_target(heading) or ""
    return Statement(subject, unit_name, scope, low, high, line, f"{' '.join(text.split())}: {cell}")


def _quantity(text: str) -> tuple[str, float, float, int, int] | None:
    """Return unit, interval and place of the one number with a unit in a text; None if there are more numbers or none."""
    found = None
    for match in _NUMBER.finditer(text):
        unit = _UNIT.match(text, match.end() + len(text[match.end() :]) - len(text[match.end() :].lstrip(" -\u00a0")))
        if unit is None:
            return None
        if found is not None:
            return None
        found = (match, unit)
    if found is None:
        return None
    match, unit = found
    if _OPEN.match(text[unit.end() :]) or _INEQUALITY.search(text[: match.start()]):
        return None
    digits = (match.group(1) + (match.group(2) or "")).replace(",", "")
    value = float(digits)
    half = 0.5 * 10.0 ** -(len(digits.partition(".")[2]))
    if unit.group("count"):
        half = 0.0
    low, high = value - half, value + half
    if _ROUGH.search(text[: match.start()]) or match.group(0).startswith("~"):
        low, high = min(low, value * (1 - ROUGH)), max(high, value * (1 + ROUGH))
    name, factor = _base(unit)
    return name, low * factor, high * factor, match.start(), unit.end()


def _base(unit: re.Match[str]) -> tuple[str, float]:
    """Return the unit of a statement and the factor to its base."""
    if unit.group("bytes"):
        word = unit.group("bytes").lower()
        per = unit.group("per") or ""
        kind = "bytes" if not per else "bytes/cycle" if re.search(r"cl|cyc", per) else "bytes/s"
        if unit.group("bytes").endswith("b"):
            kind = kind.replace("bytes", "bits")
        if word[0] not in _DECIMAL or word in ("b", "byte", "bytes"):
            return kind, 1.0
        power = list(_DECIMAL).index(word[0]) + 1
        return (kind, 1024.0**power) if "i" in word[1:2] else (f"{kind}:{power}", _DECIMAL[word[0]])
    for group, name in (("hertz", "Hz"), ("flops", "op/s"), ("watt", "W")):
        if unit.group(group):
            first = unit.group(group)[0].lower()
            factor = _DECIMAL.get(first, 1.0) if not unit.group(group).lower().startswith(("flop", "hz", "w")) else 1.0
            return name, factor
    if unit.group("time"):
        word = unit.group("time").lower()
        factor = {"n": 1e-9, "u": 1e-6, "µ": 1e-6, "μ": 1e-6, "s": 1.0}.get(word[0], 1e-6 if word.startswith("mic") else 1e-3)
        return "s", factor
    if unit.group("percent"):
        return "%", 1.0
    counted = unit.group("count").lower()
    return stem(re.sub(r"^\d+-bit\s+", "", counted)), 1.0


def _subject(text: str, unit: str) -> str | None:
    """Return the content words as one key; None if they are too few, too many, or say nothing of their own."""
    words = [word.strip(".-/").lower() for word in _WORD.findall(text)]
    kept = {stem(word) for word in words if word and word not in STOP_WORDS and not _EMPTY.fullmatch(word)}
    if _BOUND.search(text) and not unit.endswith("/s"):
        kept.add("max")
    if _LEAST.search(text):
        kept.add("min")
    content = kept - {"max", "min"}
    return " ".join(sorted(kept)) if MIN_SUBJECT_WORDS <= len(content) <= MAX_SUBJECT_WORDS else None


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def _clean(cell: str) -> str:
    return " ".join(_MARKUP.sub(lambda match: match.group(1) or "", cell).split())


def _is_rule(cells: Sequence[str]) -> bool:
    return bool(cells) and all(re.fullmatch(r":?-+:?", cell) for cell in cells)
