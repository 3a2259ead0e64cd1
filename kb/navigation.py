"""Passages that only lead elsewhere: lists of links, tables of contents, indexes. They hold every word of what they lead to, and answer nothing."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence

from sqlalchemy import Connection, bindparam, text

LINK_SHARE = 0.35
"""From this share of its characters in links on, a passage leads elsewhere: 3 % of our own documents' passages, 9 % of the manuals'. No development question about
either has all of its answering passages among them; thresholds of 0.25 and 0.5 do a little less."""
KEPT = 20_000

_MARKDOWN = re.compile(r"\[[^\[\]\n]{0,300}\]\([^()\s]{0,300}\)")
_ROLE = re.compile(r"`[^`<>]{0,300}<[^`<>]{0,300}>`__?|:(?:doc|ref|any):`[^`]{0,300}`")
_ADDRESS = re.compile(r"https?://\S+")
_ANCHOR = re.compile(r"<a\s[^<>]{0,300}>[^<]{0,300}</a>", re.IGNORECASE)
_ENTRY = re.compile(
    r"^[ \t]*[\w.-]{1,100}(?:/[\w.-]{1,100}){1,10}[ \t]*$|^[ \t]*\.\. toctree::|^[ \t]*:(?:maxdepth|hidden|caption|glob)\S*", re.MULTILINE
)
_SIGNS = (("](", _MARKDOWN), ("`", _ROLE), ("://", _ADDRESS), ("<a ", _ANCHOR), ("/", _ENTRY), ("toctree::", _ENTRY))
"""What every match of a pattern holds, and the pattern."""

_TEXTS = text("SELECT number, text FROM chunks WHERE number IN :numbers").bindparams(bindparam("numbers", expanding=True))


def link_share(passage: str) -> float:
    """Return the share of a passage's characters, white space left out, that belong to links, entries of a table of contents or bare addresses."""
    total = sum(map(len, passage.split()))
    inside = 0
    for pattern in dict.fromkeys(pattern for sign, pattern in _SIGNS if sign in passage):
        inside += sum(sum(map(len, match.group().split())) for match in pattern.finditer(passage))
        passage = pattern.sub(" ", passage)
    return inside / total if total else 0.0


@functools.lru_cache(maxsize=KEPT)
def leads_elsewhere(passage: str) -> bool:
    """Return whether a passage consists of links for the most part; remembered for the passages looked at last."""
    return link_share(passage) >= LINK_SHARE


def leading_elsewhere(connection: Connection, numbers: Sequence[int]) -> set[int]:
    """Return the numbers of those chunks that consist of links for the most part."""
    rows = connection.execute(_TEXTS, {"numbers": list(numbers)}) if numbers else ()
    return {int(row[0]) for row in rows if leads_elsewhere(str(row[1]))}
