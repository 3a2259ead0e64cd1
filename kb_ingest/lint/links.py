"""Checks of links: files and anchors exist, and every document can be reached from the folder's index."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from kb_ingest.lint.finding import Finding
from kb_ingest.lint.page import Link, Page

INDEX_NAMES = ("index.md", "README.md")
_ADDRESS = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*:|//")


def _all_links(page: Page) -> Iterator[Link]:
    """Yield the links of the text that lead to files, and those of `see_also`."""
    yield from (link for link in page.links if not _ADDRESS.match(link.href))
    related = page.front_matter.get("see_also", [])
    for item in related if isinstance(related, list) else ():
        yield Link(str(item), page.line_of("see_also"))


def _destination(page: Page, href: str, root: Path) -> Path:
    file = href.partition("#")[0].partition("?")[0]
    if not file:
        return page.path
    return Path(root / file.lstrip("/") if file.startswith("/") else page.path.parent / file).resolve()


def check_links(pages: Mapping[str, Page], root: Path) -> Iterator[Finding]:
    """Relative links lead to files, and their anchors to headings."""
    by_path = {page.path.resolve(): page for page in pages.values()}
    for page in pages.values():
        for link in _all_links(page):
            target = _destination(page, link.href, root)
            anchor = link.href.partition("#")[2]
            if not target.exists():
                yield Finding("link", page.name, link.line, f"{link.href} leads nowhere")
            elif anchor and (other := by_path.get(target.resolve())) and anchor not in other.anchors:
                near = _nearest(anchor, other.anchors)
                yield Finding("link", page.name, link.line, f"{link.href}: no such heading" + (f"; nearest: #{near}" if near else ""))


def _nearest(anchor: str, anchors: frozenset[str]) -> str:
    import difflib

    return next(iter(difflib.get_close_matches(anchor, sorted(anchors), n=1)), "")


def check_reachable(pages: Mapping[str, Page], root: Path) -> Iterator[Finding]:
    """There is an index, and following links from it reaches every document."""
    start = next((name for name in INDEX_NAMES if name in pages), None)
    if start is None:
        yield Finding("reachable", ".", 1, f"no {' or '.join(INDEX_NAMES)}: the folder wants one that says what to read when")
        return
    by_path = {page.path.resolve(): page for page in pages.values()}
    linked = {name: {by_path[path].name for path in _targets(page, root) if path in by_path} - {name} for name, page in pages.items()}
    seen, frontier = {start}, [start]
    while frontier:
        fresh = linked[frontier.pop()] - seen
        seen |= fresh
        frontier += fresh
    for name in sorted(pages.keys() - seen):
        if any(name in others for others in linked.values()):
            yield Finding("reachable", name, 1, f"only documents that {start} does not reach link here")
        else:
            yield Finding("reachable", name, 1, "an orphan: no document links here; add it to an index")


def _targets(page: Page, root: Path) -> Iterator[Path]:
    for link in page.links:
        if not _ADDRESS.match(link.href):
            path = _destination(page, link.href, root)
            for candidate in (path, *(path / name for name in INDEX_NAMES)) if path.is_dir() else (path,):
                yield candidate.resolve()
