"""One Markdown document as the checks see it: front matter, anchors, links, prose and tables, each with its line."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from kb_ingest.readers.base import RawFile, decode, split_front_matter
from kb_ingest.readers.markdown import plain_title

if TYPE_CHECKING:
    from markdown_it.token import Token

_EXPLICIT_ID = re.compile(r"<a\s[^>]*(?:id|name)\s*=\s*[\"']([^\"']+)[\"']|\{#([\w-]+)\}|^\(([\w-]+)\)=\s*$", re.MULTILINE)


@dataclass(frozen=True)
class Link:
    """A link or image of a document."""

    href: str
    line: int


@dataclass(frozen=True)
class Passage:
    """The text of one paragraph, list item or heading; code spans are replaced by a placeholder."""

    text: str
    line: int


@dataclass(frozen=True)
class TableRow:
    """One row of a table."""

    cells: tuple[str, ...]
    line: int


@dataclass(frozen=True)
class Table:
    """A table with its header."""

    header: TableRow
    rows: tuple[TableRow, ...]


@dataclass(frozen=True)
class Page:
    """One document."""

    name: str
    """Path from the linted folder, with forward slashes."""
    path: Path
    front_matter: Mapping[str, Any]  # Any: YAML as written
    skipped: int
    """Lines of front matter, 0: there is none."""
    lines: tuple[str, ...]
    anchors: frozenset[str]
    links: tuple[Link, ...]
    passages: tuple[Passage, ...]
    tables: tuple[Table, ...]
    mangled: tuple[Passage, ...]
    """Products and names whose asterisks or underscores were read as emphasis, `2*m*n`."""

    def line_of(self, key: str) -> int:
        """Return the line where a name stands first in the front matter, else 1."""
        pattern = re.compile(rf"^\s*(?:- )?[\"']?{re.escape(key)}[\"']?\s*:")
        for number, line in enumerate(self.lines[: self.skipped], start=1):
            if pattern.match(line):
                return number
        return 1


def read_page(path: Path, name: str) -> Page:
    """Return a document.

    Raises:
        DocumentError: It is binary, or its front matter is not YAML.
    """
    from markdown_it import MarkdownIt

    text = decode(RawFile(name, path.read_bytes()))
    front_matter, skipped = split_front_matter(name, text)
    lines = text.split("\n")
    tokens = MarkdownIt("commonmark", {"maxNesting": 20}).enable("table").parse("\n".join([""] * skipped + lines[skipped:]))
    return Page(
        name=name,
        path=path,
        front_matter=front_matter,
        skipped=skipped,
        lines=tuple(lines),
        anchors=frozenset(_anchors(tokens, text)),
        links=tuple(_links(tokens)),
        passages=tuple(_passages(tokens)),
        tables=tuple(_tables(tokens)),
        mangled=tuple(_mangled(tokens)),
    )


def slug(title: str) -> str:
    """Return GitHub's anchor for a heading: lower case, no punctuation, spaces as hyphens."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def _anchors(tokens: list[Token], text: str) -> Iterator[str]:
    seen: Counter[str] = Counter()
    for token, content in pairwise(tokens):
        if token.type == "heading_open":
            anchor = slug(plain_title(content.content))
            yield f"{anchor}-{seen[anchor]}" if seen[anchor] else anchor
            seen[anchor] += 1
    for match in _EXPLICIT_ID.finditer(text):
        yield match.group(1) or match.group(2) or match.group(3)


def _inline(tokens: list[Token]) -> Iterator[tuple[Token, int]]:
    """Yield inline tokens with their first line; cells of a table have the line of their row."""
    line = 1
    for token in tokens:
        if token.map:
            line = token.map[0] + 1
        if token.type == "inline":
            yield token, line


def _links(tokens: list[Token]) -> Iterator[Link]:
    for token, first in _inline(tokens):
        line = first
        for child in token.children or ():
            if child.type in ("softbreak", "hardbreak"):
                line += 1
            address = child.attrGet("href") if child.type == "link_open" else child.attrGet("src") if child.type == "image" else None
            if address:
                yield Link(unquote(str(address)), line)


def _mangled(tokens: list[Token]) -> Iterator[Passage]:
    for token, line in _inline(tokens):
        children = token.children or []
        for before, opening, inside in zip(children, children[1:], children[2:], strict=False):
            if opening.type == "em_open" and re.search(r"[\w)]$", before.content) and re.match(r"[\w(]", inside.content):
                yield Passage(before.content[-20:] + opening.markup + inside.content[:20], line)


def _plain(token: Token) -> str:
    words = []
    for child in token.children or ():
        if child.type in ("softbreak", "hardbreak"):
            words.append("\n")
        elif child.type == "code_inline":
            words.append("`code`" if any(character.isalpha() for character in child.content) else child.content)
        elif child.type == "text":
            words.append(child.content)
    return "".join(words)


def _passages(tokens: list[Token]) -> Iterator[Passage]:
    table = 0
    for token, line in ((token, token.map[0] + 1 if token.map else 1) for token in tokens):
        table += token.nesting if token.type in ("table_open", "table_close") else 0
        if token.type == "inline" and not table:
            for number, text in enumerate(_plain(token).split("\n")):
                yield Passage(text, line + number)


def _tables(tokens: list[Token]) -> Iterator[Table]:
    rows: list[TableRow] = []
    cells: list[str] = []
    line = 1
    for token in tokens:
        if token.type == "table_open":
            rows = []
        elif token.type == "tr_open":
            cells, line = [], (token.map[0] + 1 if token.map else line)
        elif token.type == "inline" and cells is not None:
            cells.append(_plain(token))
        elif token.type == "tr_close":
            rows.append(TableRow(tuple(cells), line))
        elif token.type == "table_close" and rows:
            yield Table(rows[0], tuple(rows[1:]))
