"""From the lines of all pages to the text of a document: headings, paragraphs, code and tables, with the page of every line.

Headings are those of the PDF's own outline where it has one; else lines that are larger than the body, or bold and set apart. What stands at the same place of many
pages (running titles, page numbers) is left out and counted.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from kb_ingest.pdf.layout import Line
from kb_ingest.readers.outline import Heading

LEAST_REPEATS = 3
"""Pages on which a line must stand at the same place to be a running title."""
MARGIN_LINES = 3
"""Lines from the top and from the bottom of a page that may be running titles."""
MARGIN = 0.11
"""Part of a page's height at its top and bottom in which they stand."""
MAX_TITLE = 160
MAX_LEVEL = 6
_NUMBERS = re.compile(r"\d+|^[ivxlc]+$", re.IGNORECASE)
_NUMBER = re.compile(r"^(?:(?:chapter|section|appendix|part)\s+)?((?:\d+|[A-Z])(?:\.\d+)*)\.?\s+\S", re.IGNORECASE)
_ROMAN = re.compile(r"^[IVX]{1,5}\.\s+[A-Z][A-Z0-9 ,:&/-]{2,}$")
_BULLET = re.compile(r"^[•▪◦‣●■○➢✓\uf0b7\uf0a7·–]\s*")
_LEADERS = re.compile(r"(?:\s?\.){4,}\s*\S*$|(?:\s\.){3,}")
_WORD_END = re.compile(r"[a-z]{2,}[-\u2010]$")


@dataclass(frozen=True)
class Entry:
    """A line of the PDF's outline."""

    title: str
    level: int
    """From 1."""
    page: int
    """From 1."""
    y: float | None = None
    """Height of its place from the top of the page, if stated."""


@dataclass(frozen=True)
class PageLines:
    """A page as the worker hands it over."""

    number: int
    height: float
    lines: tuple[Line, ...]
    num_images: int = 0
    num_unreadable: int = 0
    num_cut: int = 0


@dataclass
class Text:
    """A document's lines with its headings and pages."""

    title: str
    lines: list[str] = field(default_factory=list)
    headings: list[Heading] = field(default_factory=list)
    page_lines: list[int] = field(default_factory=list)
    """For each page the line (from 1) where it begins."""
    lost: dict[str, int] = field(default_factory=dict)


def assemble(pages: Sequence[PageLines], outline: Sequence[Entry], title: str) -> Text:
    """Return the text of a document.

    Args:
        pages: In order; a page that could not be read has no lines.
        outline: The PDF's own, in order.
        title: From its metadata; empty: the largest line of the first page.
    """
    body = _body_size(pages)
    running = _running(pages, body)
    kept = [[line for index, line in enumerate(page.lines) if (page.number, index) not in running] for page in pages]
    marks = _from_outline(kept, pages, outline) if len(outline) >= 2 else _from_styles(kept, body)
    text = Text(title if title and _is_said(title, pages[:3]) else _largest(kept) or title)
    for name, number in (
        ("running_titles", len(running)),
        ("images", sum(page.num_images for page in pages)),
        ("unreadable_characters", sum(page.num_unreadable for page in pages)),
        ("characters_beyond_limit", sum(page.num_cut for page in pages)),
        ("pages_without_text", sum(1 for lines in kept if not lines)),
    ):
        if number:
            text.lost[name] = number
    writer = _Writer(text)
    for page, lines in zip(pages, kept, strict=True):
        writer.page(lines, marks.get(page.number, {}))
    return text


def _running(pages: Sequence[PageLines], body: float) -> set[tuple[int, int]]:
    """Return (page, index) of the lines that repeat at the top or bottom of pages: word for word, or but for a number that counts the pages.

    Lines much larger than the body are headings, whatever they repeat.
    """
    seen: dict[tuple[str, int], list[tuple[int, int, str]]] = {}
    for page in pages:
        order = sorted(range(len(page.lines)), key=lambda index: page.lines[index].y0)
        for index in {*order[:MARGIN_LINES], *order[-MARGIN_LINES:]}:
            line = page.lines[index]
            if line.table or len(line.text) > 120 or line.size > 1.3 * body or MARGIN * page.height < line.y0 < (1 - MARGIN) * page.height:
                continue
            seen.setdefault((_NUMBERS.sub("#", line.text).strip(), round(line.y0 / 4)), []).append((page.number, index, line.text))
    found: set[tuple[int, int]] = set()
    for (key, _), places in seen.items():
        texts = Counter(text for _, _, text in places)
        offsets = Counter(offset for number, _, text in places for offset in _offsets(number, text))
        for number, index, text in places:
            counts_pages = any(offsets[offset] >= LEAST_REPEATS for offset in _offsets(number, text))
            if texts[text] >= LEAST_REPEATS or counts_pages or (key == "#" and len(places) >= LEAST_REPEATS):
                found.add((number, index))
    return found


def _offsets(page: int, text: str) -> set[int]:
    return {int(number) - page for number in re.findall(r"\d{1,6}", text)}


def _body_size(pages: Sequence[PageLines]) -> float:
    weights: Counter[float] = Counter()
    for page in pages:
        for line in page.lines:
            if not line.table and not line.is_mono:
                weights[line.size] += len(line.text)
    return weights.most_common(1)[0][0] if weights else 10.0


_SENTENCES = re.compile(r"[a-z]{3,}\. +[A-Z]")
"""The end of a sentence and the beginning of the next: running text in bold, no heading."""
MOST_OF_A_PLAIN_TITLE = 70
"""A first line that looks like the others is the title only if it is shorter than so many characters; else it is text."""


def _largest(kept: Sequence[Sequence[Line]]) -> str:
    """Return the text of the largest lines of the first page that has any."""
    lines = [line for line in next((page for page in kept if page), []) if not line.table and sum(map(str.isalpha, line.text)) >= 4]
    if not lines:
        return ""
    most = max(line.size for line in lines)
    chosen = [line.text for line in lines if line.size >= 0.95 * most]
    if len(chosen) <= 4:
        return " ".join(chosen)[:MAX_TITLE]
    return chosen[0] if len(chosen[0]) < MOST_OF_A_PLAIN_TITLE else ""


def _is_said(title: str, pages: Sequence[PageLines]) -> bool:
    """Return whether the first pages say the title, too: the metadata often keeps that of a template."""
    return _letters(title) in _letters(" ".join(line.text for page in pages for line in page.lines))


Marks = dict[int, dict[int, tuple[str, int, int]]]
"""Page → index of a line → title, level and number of lines the heading takes; index −1 and below: a heading without lines at the top of the page."""


def _from_outline(kept: Sequence[Sequence[Line]], pages: Sequence[PageLines], outline: Sequence[Entry]) -> Marks:
    """Return where the entries of the outline stand: on the line with their words, else where they point to."""
    marks: Marks = {}
    positions = {page.number: index for index, page in enumerate(pages)}
    missing = 0
    for entry in outline:
        if entry.page not in positions or not entry.title.strip():
            continue
        lines = kept[positions[entry.page]]
        taken = marks.setdefault(entry.page, {})
        wanted = _letters(entry.title)
        best = None
        for index, line in enumerate(lines):
            if index in taken or line.table or not line.text:
                continue
            length = _matches(lines, index, wanted)
            if length and (best is None or _distance(line, entry) < _distance(lines[best[0]], entry)):
                best = (index, length)
        title = " ".join(entry.title.split())[:MAX_TITLE]
        if best is not None:
            taken[best[0]] = (title, min(entry.level, MAX_LEVEL), best[1])
            continue
        below = next((index for index, line in enumerate(lines) if entry.y is not None and line.y1 > entry.y and index not in taken), None)
        if below is not None:
            taken[below] = (title, min(entry.level, MAX_LEVEL), 0)
        else:
            missing += 1
            taken[-1_000_000 + missing] = (title, min(entry.level, MAX_LEVEL), 0)
    return marks


def _distance(line: Line, entry: Entry) -> float:
    return abs(line.y0 - entry.y) if entry.y is not None else line.y0


def _letters(text: str) -> str:
    return "".join(character for character in text.lower() if character.isalnum())


def _matches(lines: Sequence[Line], index: int, wanted: str) -> int:
    """Return how many lines from here on spell the wanted letters, a section number before them allowed; 0: they do not."""
    found = ""
    for count in range(1, 4):
        if index + count > len(lines) or lines[index + count - 1].table:
            return 0
        found += _letters(lines[index + count - 1].text)
        if found == wanted or (
            found.endswith(wanted) and re.fullmatch(r"(chapter|section|appendix|part)?[a-z]?\d*", found[: -len(wanted)])
        ):
            return count
        if wanted.endswith(found) and count == 1 and len(found) > 3 and re.fullmatch(r"[a-z]?\d*", wanted[: -len(found)]):
            return 1
        if len(found) >= len(wanted):
            return 0
    return 0


def _from_styles(kept: Sequence[Sequence[Line]], body: float) -> Marks:
    """Return the lines that look like headings; the level is that of their number, else of their size among the headings' sizes."""
    found: list[tuple[int, int, int, Line, str]] = []
    for position, lines in enumerate(kept):
        index = 0
        while index < len(lines):
            if not _looks_like_heading(lines, index, body):
                index += 1
                continue
            end = index + 1
            while end < len(lines) and end - index < 3 and _continues_heading(lines[end - 1], lines[end]):
                end += 1
            title = " ".join(line.text for line in lines[index:end])
            if len(title) <= MAX_TITLE and sum(map(str.isalpha, title)) >= 3 and not _SENTENCES.search(title):
                found.append((position, index, end - index, lines[index], " ".join(title.split())))
            index = end
    sizes = sorted({round(line.size, 0) for _, _, _, line, _ in found}, reverse=True)
    ranks = {size: min(rank, 3) for rank, size in enumerate(sizes, start=1)}
    marks: Marks = {}
    for position, index, count, line, title in found:
        numbered = _NUMBER.match(title)
        level = numbered.group(1).count(".") + 1 if numbered and "." in numbered.group(1) else ranks[round(line.size, 0)]
        marks.setdefault(position + 1, {})[index] = (title, min(level, MAX_LEVEL), count)
    return marks


def _looks_like_heading(lines: Sequence[Line], index: int, body: float) -> bool:
    line = lines[index]
    text = line.text
    if line.table or line.is_mono or not 3 <= len(text) <= 120 or len(text.split()) > 16 or _LEADERS.search(text) or "   " in text:
        return False
    if (
        text[-1] in ",;"
        or (text[-1] == "." and not _NUMBER.match(text))
        or _BULLET.match(text)
        or text[0].islower()
        or text.startswith(("- ", "* "))
    ):
        return False
    letters = sum(map(str.isalpha, text))
    if letters < 0.5 * len(text.replace(" ", "")):
        return False
    above = lines[index - 1] if index else None
    gap = line.y0 - above.y1 if above is not None and above.y1 <= line.y0 + 2 else line.size
    if line.size >= 1.15 * body or _ROMAN.match(text):
        return True
    return line.is_bold and line.size >= 0.95 * body and (gap > 0.35 * line.size or bool(_NUMBER.match(text))) and len(text.split()) <= 10


def _continues_heading(line: Line, below: Line) -> bool:
    return (
        not below.table
        and abs(line.size - below.size) < 0.3
        and line.is_bold == below.is_bold
        and below.y0 - line.y1 < 0.6 * line.size
        and below.y0 > line.y0
        and not _NUMBER.match(below.text)
        and len(below.text) <= 100
    )


class _Writer:
    """Writes the pages' lines one after another."""

    def __init__(self, text: Text) -> None:
        self._text = text
        self._last: Line | None = None
        self._in_list = False

    def page(self, lines: Sequence[Line], marks: dict[int, tuple[str, int, int]]) -> None:
        """Write a page."""
        out = self._text.lines
        if out and out[-1] and (self._last is None or self._last.table or self._last.is_mono or not _runs_on(self._last)):
            out.append("")
        self._text.page_lines.append(len(out) + 1)
        for key in sorted(key for key in marks if key < 0):
            self._head(marks[key][0], marks[key][1], [])
        index = 0
        while index < len(lines):
            if index in marks:
                title, level, count = marks[index]
                self._head(title, level, [line.text for line in lines[index : index + count]])
                if count:
                    self._last = None
                    index += count
                    continue
            line = lines[index]
            if line.table:
                self._table(line, index == 0)
                index += 1
            elif line.is_mono:
                end = index
                while end < len(lines) and lines[end].is_mono and not lines[end].table and (end == index or end not in marks):
                    end += 1
                self._code(lines[index:end])
                index = end
            else:
                self._prose(line)
                index += 1

    def _head(self, title: str, level: int, source: Sequence[str]) -> None:
        self._blank()
        begin = len(self._text.lines)
        self._text.lines += source
        self._text.headings.append(Heading(title, level, begin, len(self._text.lines)))
        self._last = None

    def _blank(self) -> None:
        if self._text.lines and self._text.lines[-1]:
            self._text.lines.append("")

    def _table(self, line: Line, is_first: bool) -> None:
        """Write a table; one at the top of a page with as many columns as the one before it goes on with its rows."""
        out, last = self._text.lines, self._last
        width = line.table[1].count("|")
        if is_first and last is not None and last.table and last.table[1].count("|") == width:
            while out and not out[-1]:
                out.pop()
            self._text.page_lines[-1] = len(out) + 1
            out += line.table[2:] if line.table[0] == last.table[0] else [line.table[0], *line.table[2:]]
            line = replace(line, table=last.table)
        else:
            self._blank()
            out += line.table
        out.append("")
        self._last = line

    def _prose(self, line: Line) -> None:
        out, last = self._text.lines, self._last
        text = _BULLET.sub("- ", line.text)
        if last is not None and not last.table and out and out[-1]:
            if self._parts(last, line, text):
                if not (text.startswith("- ") and self._in_list):
                    out.append("")
            elif _WORD_END.search(out[-1]) and text[:1].islower():
                word, _, rest = text.partition(" ")
                out[-1] = out[-1][:-1] + word
                text = rest
        if not out or not out[-1] or text.startswith("- "):
            self._in_list = text.startswith("- ")
        if text:
            out.append(text)
        self._last = line

    @staticmethod
    def _parts(last: Line, line: Line, text: str) -> bool:
        """Return whether a line begins another paragraph or item than the one before it."""
        gap = line.y0 - last.y1
        is_far = gap > 0.55 * max(line.size, last.size, 1.0) or (gap < -line.size and not _runs_on(last))
        return text.startswith("- ") or is_far or abs(line.size - last.size) > 1.5

    def _code(self, lines: Sequence[Line]) -> None:
        """Write lines of fixed pitch: a fenced block, or, for a single one, a line of text."""
        if len(lines) == 1:
            self._prose(lines[0])
            return
        self._blank()
        left = min(line.x0 for line in lines)
        out = self._text.lines
        fence = "```" if not any("```" in line.text for line in lines) else "~~~~"
        out.append(fence)
        for line in lines:
            width = (line.x1 - line.x0) / max(1, len(line.text))
            out.append(" " * min(80, round((line.x0 - left) / width) if width > 0 else 0) + line.text)
        out += [fence, ""]
        self._last = lines[-1]


def _runs_on(line: Line) -> bool:
    """Return whether a sentence goes on after this line."""
    return bool(line.text) and line.text[-1] not in ".:!?" and not line.table
