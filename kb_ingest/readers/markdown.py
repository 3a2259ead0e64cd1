"""Markdown by markdown-it-py: CommonMark with tables and YAML front matter; headings inside code fences and HTML are text."""

from __future__ import annotations

import re

from kb.types import Document, Kind
from kb_ingest.readers.base import RawFile, decode, make_document, split_front_matter
from kb_ingest.readers.lost import lost_in
from kb_ingest.readers.outline import Heading, build_tree, named_places

_ANCHOR = re.compile(r"\s*\{#[^}]*\}\s*$|\s*<a\s[^>]*>\s*</a>\s*", re.IGNORECASE)
_LABEL = re.compile(r"^\(([^()\s][^()]*)\)=\s*$")
_ICON = re.compile(r":(?:octicons|material|simple|fontawesome)-[\w-]+:\s*")
_TAG = re.compile(r"</?[a-zA-Z][^>]*>")
MARKUP_CHARACTERS = 500
"""Markup is taken out of so much of a heading; what follows is kept as it is."""


class MarkdownReader:
    """`*.md` and relatives."""

    suffixes: tuple[str, ...] = (".md", ".markdown", ".mdx", ".mdown", ".mkd")

    def accepts(self, file: RawFile) -> bool:
        """Return True: every text is Markdown."""
        return True

    def read(self, file: RawFile) -> Document:
        """Return the document: sections by headings, title from front matter or the first heading."""
        text = decode(file)
        front_matter, skipped = split_front_matter(file.source, text)
        lines = text.split("\n")
        headings = find_headings(lines, skipped)
        first_title = next((heading.title for heading in headings if heading.level == 1), headings[0].title if headings else "")
        title = str(front_matter.get("title") or first_title or file.source.rsplit("/", 1)[-1])
        root = build_tree(title, lines, headings, skipped, links=named_places(lines, headings, _LABEL))
        return make_document(file, title, root, front_matter, Kind.GUIDE, lost=lost_in(text, "markdown"))


def find_headings(lines: list[str], skipped: int) -> list[Heading]:
    """Return the headings of a Markdown text.

    Args:
        lines: The whole source.
        skipped: Lines of front matter at its beginning.
    """
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark", {"maxNesting": 20}).enable("table").disable("inline", True)
    tokens = parser.parse("\n".join([""] * skipped + lines[skipped:]))
    found = []
    for index, token in enumerate(tokens):
        if token.type == "heading_open" and token.map and token.level == 0:
            title = plain_title(tokens[index + 1].content)
            if title:
                found.append(Heading(title, int(token.tag[1]), token.map[0], token.map[1]))
    return found


def plain_title(markup: str) -> str:
    """Return a heading's text without inline markup."""
    text = " ".join(markup.split())
    text, rest = text[:MARKUP_CHARACTERS], text[MARKUP_CHARACTERS:]
    text = _ICON.sub("", _TAG.sub("", _ANCHOR.sub("", text)))
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text)
    text = re.sub(r"(\*\*|__)(.+?)\1", r"\2", text)
    text = re.sub(r"(?<![\w*])\*([^*]+)\*(?![\w*])", r"\1", text)
    return (re.sub(r"`+([^`]+)`+", r"\1", text) + rest).strip()
