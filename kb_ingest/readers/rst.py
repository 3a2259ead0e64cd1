"""reStructuredText by lines: sections from underlined titles, directives kept as text and never executed, substitutions in titles resolved.

Not read through docutils: Sphinx sources are full of directives and roles that it does not know, and line-exact spans are needed. Titles follow the
specification (https://docutils.sourceforge.io/docs/ref/rst/restructuredtext.html#sections), but an underline may be shorter than its title, as in real manuals.
"""

from __future__ import annotations

import re

from kb.types import Document, Kind
from kb_ingest.readers.base import RawFile, decode, make_document, split_front_matter
from kb_ingest.readers.lost import lost_in
from kb_ingest.readers.markdown import MARKUP_CHARACTERS
from kb_ingest.readers.outline import Heading, build_tree, named_places

_ADORNMENT = re.compile(r"^([!-/:-@[-`{-~])\1{2,}\s*$")
_SUBSTITUTION = re.compile(r"^\.\. \|([^|]+)\|\s+replace::\s*(.*)$")
_ROLE = re.compile(r":[\w:+.-]+:`([^`<]*?)(?:\s*<[^`>]*>)?`")
_LINK = re.compile(r"`([^`<]+?)\s*(?:<[^`>]*>)?`_{0,2}")
_LABEL = re.compile(r"^[ \t]*\.\. _(?:`([^`]+)`|([^:`]+)):\s*$")
_STRUCTURE = re.compile(r"^(\.\. |:[\w-]+:(\s|$)|\+[-=]|\|(\s|$)|[*+-] )")


class RstReader:
    """`*.rst`."""

    suffixes: tuple[str, ...] = (".rst", ".rest")

    def accepts(self, file: RawFile) -> bool:
        """Return True: every text may be reStructuredText."""
        return True

    def read(self, file: RawFile) -> Document:
        """Return the document: sections by adorned titles, levels by the order in which adornments first occur."""
        text = decode(file)
        front_matter, skipped = split_front_matter(file.source, text)
        lines = text.split("\n")
        headings = find_headings(lines, skipped)
        title = headings[0].title if headings else file.source.rsplit("/", 1)[-1]
        root = build_tree(title, lines, headings, skipped, "rst", links=named_places(lines, headings, _LABEL))
        return make_document(file, title, root, front_matter, Kind.GUIDE, lost=lost_in(text, "rst"))


def find_headings(lines: list[str], skipped: int = 0) -> list[Heading]:
    """Return the titles of a reStructuredText source."""
    names = {match.group(1): match.group(2).strip() for line in lines if (match := _SUBSTITUTION.match(line))}
    styles: list[tuple[str, bool]] = []
    found: list[Heading] = []
    index = skipped
    while index < len(lines):
        heading = _heading_at(lines, index)
        if heading is None:
            index += 1
            continue
        begin, end, raw, style = heading
        if style not in styles:
            styles.append(style)
        title = plain_title(raw, names)
        if title:
            found.append(Heading(title, min(styles.index(style) + 1, 6), begin, end))
        index = end
    return found


def _heading_at(lines: list[str], index: int) -> tuple[int, int, str, tuple[str, bool]] | None:
    line = lines[index]
    over = _ADORNMENT.match(line)
    if over and index + 2 < len(lines):
        under = _ADORNMENT.match(lines[index + 2])
        title = lines[index + 1]
        if under and under.group(1) == over.group(1) and title.strip() and not _ADORNMENT.match(title):
            return index, index + 3, title.strip(), (over.group(1), True)
    if over or not line.strip() or line[0].isspace() or index + 1 >= len(lines):
        return None
    under = _ADORNMENT.match(lines[index + 1])
    if not under or (index > 0 and lines[index - 1].strip() and not lines[index - 1].startswith(".. ")) or _STRUCTURE.match(line):
        return None
    length = len(lines[index + 1].rstrip())
    if length < min(4, len(line.rstrip())):
        return None
    return index, index + 2, line.strip(), (under.group(1), False)


def plain_title(raw: str, names: dict[str, str]) -> str:
    """Return a title without roles, link targets and literal marks, substitutions resolved."""
    raw, rest = raw[:MARKUP_CHARACTERS], raw[MARKUP_CHARACTERS:]
    text = re.sub(r"\|([^|]+)\|_{0,2}", lambda match: names.get(match.group(1), match.group(1)), raw)
    text = _ROLE.sub(lambda match: match.group(1).strip().lstrip("~!"), text)
    text = re.sub(r"``([^`]+)``", r"\1", text)
    text = _LINK.sub(lambda match: match.group(1), text)
    return re.sub(r"\*{1,2}([^*]+)\*{1,2}", r"\1", text).replace("\\", "").strip() + rest
