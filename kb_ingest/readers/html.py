"""HTML pages: the text of each source line on the same line, so that spans stay those of the file; scripts, styles and navigation dropped, nothing executed."""

from __future__ import annotations

import re
from html.parser import HTMLParser

from kb.types import Document, Kind
from kb_ingest.readers.base import RawFile, decode, make_document
from kb_ingest.readers.outline import Heading, build_tree

_DROPPED = frozenset({"script", "style", "nav", "footer", "noscript", "template", "svg", "iframe", "object", "form", "button", "select"})
_VOID = frozenset({"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"})
_HEADINGS = {"h1": 1, "h2": 2, "h3": 3, "h4": 4, "h5": 5, "h6": 6}
_CELLS = frozenset({"td", "th"})
_BREAKS = frozenset({"p", "div", "tr", "br", "section", "article", "table", "ul", "ol", "dl", "dd", "dt", "pre", "blockquote"})
_MAIN = re.compile(rb"<(main|article)\b|role=[\"']main[\"']", re.IGNORECASE)


class HtmlReader:
    """`*.html`."""

    suffixes: tuple[str, ...] = (".html", ".htm", ".xhtml")

    def accepts(self, file: RawFile) -> bool:
        """Return whether the content has tags."""
        return b"<" in file.data[:65536]

    def read(self, file: RawFile) -> Document:
        """Return the document: sections by `h1` to `h6`, title from `<title>` or the first heading."""
        text = decode(file)
        parser = _LineText(text.count("\n") + 1, bool(_MAIN.search(file.data)))
        parser.feed(text)
        parser.close()
        lines = [re.sub(r"[ \t]+", " ", "".join(parts)).strip() if parts else "" for parts in parser.lines]
        headings = [Heading(title, level, begin, begin) for title, level, begin in parser.found if title]
        title = (headings[0].title if headings else "") or " ".join(parser.title.split()) or file.source.rsplit("/", 1)[-1]
        return make_document(file, title, build_tree(title, lines, headings, syntax="plain"), {}, Kind.GUIDE)


class _LineText(HTMLParser):
    """Collects the visible text by source line, and the headings."""

    def __init__(self, num_lines: int, has_main: bool) -> None:
        super().__init__(convert_charrefs=True)
        self.lines: list[list[str]] = [[] for _ in range(num_lines)]
        self.found: list[tuple[str, int, int]] = []
        self.title = ""
        self._has_main = has_main
        self._main: list[str] = []
        self._dropped: list[str] = []
        self._heading: tuple[int, int, list[str]] | None = None
        self._in_title = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the structure."""
        values = dict(attrs)
        if tag in _DROPPED and not (self._dropped and tag in _VOID):
            self._dropped.append(tag)
        elif tag == "title":
            self._in_title = True
        elif tag in _HEADINGS and not self._dropped:
            self._heading = (_HEADINGS[tag], self.getpos()[0] - 1, [])
        elif tag == "li":
            self._put("- ")
        elif tag in _CELLS:
            self._put(" | ")
        elif tag in _BREAKS:
            self._put(" ")
        elif tag == "img" and values.get("alt"):
            self._put(f" {values['alt']} ")
        if tag in ("main", "article") or values.get("role") == "main":
            self._main.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Note the structure."""
        if self._dropped and tag == self._dropped[-1]:
            self._dropped.pop()
        elif tag == "title":
            self._in_title = False
        elif tag in _HEADINGS and self._heading is not None:
            level, begin, parts = self._heading
            self.found.append((" ".join("".join(parts).replace("¶", "").replace("\uf0c1", "").split()), level, begin))
            self._heading = None
        elif tag in _BREAKS:
            self._put(" ")
        if self._main and tag == self._main[-1] and tag in ("main", "article"):
            self._main.pop()

    def handle_data(self, data: str) -> None:
        """Keep visible text on the line where it stands."""
        if self._in_title:
            self.title += data
        elif self._heading is not None and not self._dropped:
            self._heading[2].append(data)
            self._put(data)
        elif not self._dropped and not (self._has_main and not self._main):
            self._put(data)

    def _put(self, data: str) -> None:
        if self._dropped or self._in_title or data in ("\u00b6", "\uf0c1"):
            return
        first = self.getpos()[0] - 1
        for offset, piece in enumerate(data.split("\n")):
            if first + offset < len(self.lines):
                self.lines[first + offset].append(piece)
