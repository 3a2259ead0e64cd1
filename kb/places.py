"""Where a span stands: lines, pages of a PDF, and the commit of a repository whose file holds it, for citations."""

from __future__ import annotations

import bisect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kb.types import Hit


def place_of(hit: Hit) -> str:
    """Return where a hit stands, for people: its file with the pages, if the file has any, else with the lines."""
    return place_in(hit.source.path, hit.source.line_start, hit.source.line_end, hit.pages)


def place_in(source: str, line_start: int, line_end: int, pages: tuple[int, int] | None) -> str:
    """Return `file:first-last` for lines, `file, page 3` or `file, pages 3-4` for a span of a file with pages; its lines are those of the converted text."""
    if pages is None:
        return f"{source}:{line_start}-{line_end}"
    first, last = pages
    return f"{source}, page {first}" if first == last else f"{source}, pages {first}-{last}"


def pages_of(front_matter: Mapping[str, Any], line_start: int, line_end: int) -> tuple[int, int] | None:  # Any: JSON
    """Return the first and last page of a span of a document, from 1, or None if it has no pages."""
    pages = front_matter.get("page_lines")
    if not isinstance(pages, list) or not pages:
        return None
    return page_of(pages, line_start), page_of(pages, line_end)


def citation_of(front_matter: Mapping[str, Any]) -> str:  # Any: JSON
    """Return `repository@commit:path` of a document that came unchanged from a checkout, else nothing."""
    checkout = front_matter.get("checkout")
    if not isinstance(checkout, Mapping) or not checkout.get("commit"):
        return ""
    return f"{checkout.get('repository', '')}@{checkout['commit']}:{checkout.get('path', '')}"


def page_of(page_lines: list[int], line: int) -> int:
    """Return the page (from 1) of a line; `page_lines` holds the line where each page begins. Of pages without lines the last counts."""
    return max(1, bisect.bisect_right(page_lines, line))
