"""HTML pages: the text of each source line on the same line, so that spans stay those of the file; nothing is executed.

Scripts, styles, navigation and what is hidden from readers are dropped and counted. Code keeps its line ends and is indented by four, a row of a table stands on one
line between bars, links are kept as edges. A page written in few endless lines is first broken at its block elements, one with several headings on a line at its
headings; spans then count those lines.
"""

from __future__ import annotations

import re
from collections import Counter
from html.parser import HTMLParser

from kb.types import Document, Kind
from kb_ingest.readers.base import RawFile, decode, make_document
from kb_ingest.readers.outline import Heading, build_tree

_DROPPED = frozenset(
    {
        "script",
        "style",
        "nav",
        "footer",
        "noscript",
        "template",
        "svg",
        "iframe",
        "object",
        "form",
        "button",
        "select",
        "textarea",
        "canvas",
    }
)
_VOID = frozenset({"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"})
_HEADINGS = {"h1": 1, "h2": 2, "h3": 3, "h4": 4, "h5": 5, "h6": 6}
_CELLS = frozenset({"td", "th"})
_BREAKS = frozenset({"p", "div", "br", "section", "article", "table", "ul", "ol", "dl", "dd", "dt", "blockquote"})
_MAIN = re.compile(rb"<(main|article)\b|role=[\"']main[\"']", re.IGNORECASE)
_NAVIGATION = frozenset(
    {"top", "nav-path", "side-nav", "headerlink", "sphinxsidebar", "related", "wy-nav-side", "wy-side-scroll", "lineno", "linenos", "breadcrumb", "footer",
     "toc-drawer", "skip-link", "ttc", "MSearchSelectWindow", "MSearchResultsWindow", "SRIndex", "SRStatus", "titlearea", "main-nav"}
)  # fmt: skip
"""Ids and classes of navigation, line numbers and anchors, as Sphinx, Doxygen and their themes name them."""
_LAYOUT = frozenset({"memname", "mlabels", "highlighttable", "layout", "memproto"})
"""Classes of tables that only place their content."""
_HIDDEN = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden|font-size\s*:\s*0", re.IGNORECASE)
_BLOCK_TAG = re.compile(
    r"(?<!\n)(?=<(?:p|div|section|article|h[1-6]|ul|ol|li|dl|dt|dd|table|tr|pre|blockquote|main|header|footer|nav)\b)", re.IGNORECASE
)
_CROWDED = re.compile(r"<h[1-6]\b[^\n]*<h[1-6]\b", re.IGNORECASE)
_HEADING_TAG = re.compile(r"(?<!\n)(?=<h[1-6]\b)", re.IGNORECASE)
MAX_UNENDED = 20
"""Tags or comments without an end behind which structure is still looked for."""
_SHORT_TAG = re.compile(r"</?[a-zA-Z][^<>]{0,1000}>")
ENDLESS = 3000
"""Characters of a line; a page with a longer one that holds block elements is broken at them."""


class HtmlReader:
    """`*.html`."""

    suffixes: tuple[str, ...] = (".html", ".htm", ".xhtml")

    def accepts(self, file: RawFile) -> bool:
        """Return whether the content has tags."""
        return b"<" in file.data[:65536]

    def read(self, file: RawFile) -> Document:
        """Return the document: sections by `h1` to `h6`, title from the first heading or `<title>`."""
        text = decode(file)
        if any(len(line) > ENDLESS and len(_BLOCK_TAG.findall(line)) > 5 for line in text.split("\n")):
            text = _BLOCK_TAG.sub("\n", text)
        if _CROWDED.search(text):
            text = _HEADING_TAG.sub("\n", text)
        parser = _LineText(text.count("\n") + 1, bool(_MAIN.search(file.data)))
        parser.read(text)
        lines = parser.text_lines()
        headings = [Heading(title, level, begin, begin) for title, level, begin in parser.found if title]
        title = (headings[0].title if headings else "") or " ".join(parser.title.split()) or file.source.rsplit("/", 1)[-1]
        root = build_tree(title, lines, headings, syntax="html", links=parser.links)
        return make_document(file, title, root, {}, Kind.GUIDE, lost=parser.lost)


class _LineText(HTMLParser):
    """Collects the visible text by source line, the headings and the links."""

    def __init__(self, num_lines: int, has_main: bool) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[tuple[str, int, int]] = []
        self.links: list[tuple[int, str, str]] = []
        """Line (from 0), label, address."""
        self.title = ""
        self.lost: Counter[str] = Counter()
        self._lines: list[list[str]] = [[] for _ in range(num_lines)]
        self._code: set[int] = set()
        self._has_main = has_main
        self._main: list[str] = []
        self._dropped: list[str] = []  # the dropped element and those of its name within it
        self._heading: tuple[int, int, list[str]] | None = None
        self._title_div = False
        self._in_title = False
        self._pre: list[str] = []
        self._tables: list[bool] = []  # whether each open table has rows of its own
        self._row: tuple[int, list[list[str]]] | None = None
        self._link: tuple[int, str, list[str]] | None = None

    def read(self, text: str) -> None:
        """Parse the whole page. What never ends (a tag or comment that is not closed) is text.

        For each such beginning the parser looks to the end of the page again; so after a few of them the rest is read without structure.
        """
        self.feed(text)
        for _ in range(MAX_UNENDED):
            rest = self.rawdata
            next_begin = rest.find("<", 1)
            if not rest.startswith("<") or next_begin < 0:
                break
            self._give_up(next_begin)
            self.feed("")
        if self.rawdata.startswith("<"):
            self.rawdata = _SHORT_TAG.sub(lambda match: " " + "\n" * match.group().count("\n"), self.rawdata)
            self._give_up(len(self.rawdata))
        self.close()

    def parse_marked_section(self, i: int, report: bool = True) -> int:
        """Return where a marked section (`<![…`) ends; one without a name that SGML knows, on which the library asserts, is a comment as in browsers."""
        try:
            return super().parse_marked_section(i, report)
        except AssertionError:
            return self.parse_bogus_comment(i)

    def _give_up(self, end: int) -> None:
        """Take the beginning of what is not parsed yet as text."""
        self.handle_data(self.rawdata[:end])
        self.updatepos(0, end)
        self.rawdata = self.rawdata[end:]

    def text_lines(self) -> list[str]:
        """Return the text by source line."""
        self._end_row()
        return [
            "    " + "".join(parts).rstrip() if number in self._code and "".join(parts).strip() else " ".join("".join(parts).split())
            for number, parts in enumerate(self._lines)
        ]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the structure."""
        values = {name: value or "" for name, value in attrs}
        if self._dropped:
            if tag == self._dropped[-1] and tag not in _VOID:
                self._dropped.append(tag)
            return
        reason = _reason_to_drop(tag, values)
        if reason:
            self.lost[reason] += 1
            if tag not in _VOID:
                self._dropped.append(tag)
            return
        line = self.getpos()[0] - 1
        if tag in ("main", "article") or values.get("role") == "main":
            self._main.append(tag)
        names = set(values.get("class", "").split())
        if tag == "title":
            self._in_title = True
        elif tag in _HEADINGS:
            self._end_row()
            self._put(" ")
            self._heading = (_HEADINGS[tag], line, [])
        elif tag == "div" and "title" in names and self._heading is None and not self._pre:
            self._end_row()  # how Doxygen writes the title of a page
            self._heading = (1, line, [])
            self._title_div = True
        elif tag == "pre" or (tag == "div" and "fragment" in names):
            self._end_row()
            self._pre.append(tag)
        elif tag == "div" and self._pre:
            self._pre.append(tag)
        elif tag == "table":
            self._tables.append(self._row is None and not names & _LAYOUT and values.get("role") != "presentation")
        elif tag == "tr" and self._tables:
            if len(self._tables) == 1 and self._tables[0]:
                self._end_row()
                self._row = (line, [])
        elif tag in _CELLS:
            if self._row is not None and len(self._tables) == 1:
                self._row[1].append([])
            else:
                self._put(" ")
        elif tag == "li":
            self._put("- ")
        elif tag == "a" and values.get("href", "").strip() and self._link is None:
            self._link = (line, values["href"].strip(), [])
        elif tag in _BREAKS:
            self._put(" ")
        elif tag == "img":
            self.lost["images"] += 1
            if values.get("alt"):
                self._put(f" {values['alt']} ")

    def handle_endtag(self, tag: str) -> None:
        """Note the structure."""
        if self._dropped:
            if tag == self._dropped[-1]:
                self._dropped.pop()
            return
        if tag == "title":
            self._in_title = False
        elif (tag in _HEADINGS or (tag == "div" and self._title_div)) and self._heading is not None:
            self._title_div = False
            level, begin, parts = self._heading
            self.found.append((" ".join("".join(parts).replace("¶", "").replace("\uf0c1", "").split()), level, begin))
            self._heading = None
            self._put(" ")
        elif self._pre and tag == self._pre[-1]:
            self._pre.pop()
        elif tag == "tr" and len(self._tables) == 1:
            self._end_row()
        elif tag == "table" and self._tables:
            self._tables.pop()
            if not self._tables:
                self._end_row()
        elif tag == "a" and self._link is not None:
            line, address, parts = self._link
            label = " ".join("".join(parts).split())
            if label and not address.lower().startswith(("javascript:", "data:", "mailto:")):
                self.links.append((line, label[:200], address[:500]))
            self._link = None
        elif tag in _BREAKS:
            self._put(" ")
        if self._main and tag == self._main[-1] and tag in ("main", "article"):
            self._main.pop()

    def handle_data(self, data: str) -> None:
        """Keep visible text on the line where it stands."""
        if self._dropped:
            return
        if self._in_title:
            self.title += data
            return
        if self._link is not None:
            self._link[2].append(data)
        if self._heading is not None:
            self._heading[2].append(data)
            self._put(data)
        elif not (self._has_main and not self._main):
            self._put(data)

    def _put(self, data: str) -> None:
        if self._dropped or self._in_title or data in ("\u00b6", "\uf0c1"):
            return
        if self._row is not None and not self._pre:
            if self._row[1]:
                self._row[1][-1].append(data)
                return
            if not data.strip():
                return
        first = self.getpos()[0] - 1
        for offset, piece in enumerate(data.split("\n")):
            if first + offset < len(self._lines):
                self._lines[first + offset].append(piece)
                if self._pre and piece.strip():
                    self._code.add(first + offset)

    def _end_row(self) -> None:
        """Write the open row of a table on the line where it begins."""
        if self._row is None:
            return
        line, cells = self._row
        self._row = None
        texts = [" ".join("".join(cell).split()).replace("|", "\\|") for cell in cells]
        if any(texts):
            text = "| " + " | ".join(texts) + " |" if len(texts) > 1 else texts[0]
            before = "".join(self._lines[line]).strip()
            self._lines[line] = [f"{before} {text}" if before else text]


def _reason_to_drop(tag: str, values: dict[str, str]) -> str:
    if tag in _DROPPED:
        return "scripts" if tag in ("script", "style", "noscript", "template") else "navigation" if tag in ("nav", "footer") else "embedded"
    if (
        values.get("role") in ("navigation", "search", "banner", "contentinfo")
        or {values.get("id", ""), *values.get("class", "").split()} & _NAVIGATION
    ):
        return "navigation"
    if tag in ("html", "body", "main", "article"):
        return ""  # a page that shows itself by script
    if "hidden" in values or _HIDDEN.search(values.get("style", "")) or (tag == "input" and values.get("type") == "hidden"):
        return "hidden"
    return ""
