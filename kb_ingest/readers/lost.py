"""What the chunks of a text leave out, counted for the report."""

from __future__ import annotations

import re

from kb.chunking import DATA_IMAGE

_HTML_COMMENT = re.compile(r"^[ \t]*<!--", re.MULTILINE)
_RST_COMMENT = re.compile(r"^\.\.(?:[ \t]+(?!\[|_|\||[\w.:+-]+::)\S.*|[ \t]*)$", re.MULTILINE)


def lost_in(text: str, syntax: str) -> dict[str, int]:
    """Return how many embedded images and comments a text of this syntax holds that no chunk will."""
    counts = {
        "images_in_text": len(DATA_IMAGE.findall(text)) if "data:" in text else 0,
        "comments": len(_RST_COMMENT.findall(text)) if syntax == "rst" else _html_comments(text),
    }
    return {name: number for name, number in counts.items() if number}


def _html_comments(text: str) -> int:
    """Return the number of comments that begin a line and end somewhere."""
    number = position = 0
    while (begin := _HTML_COMMENT.search(text, position)) and (end := text.find("-->", begin.end())) >= 0:
        number, position = number + 1, end + 3
    return number
