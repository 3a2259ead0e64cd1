"""Blocks of Markdown, of text that a reader converted, of HTML by lines, of code and of plain text: what the chunker must not cut in the middle."""

from __future__ import annotations

import re
from collections.abc import Sequence

from kb.blocks import CODE_DIRECTIVES, TABLE_DIRECTIVES, Block, comment_end, list_table_header, rst_blocks

_FENCE = re.compile(r"^\s{0,3}(?:[-*+]\s+|\d+[.)]\s+|>\s*)?(`{3,}|~{3,})(.*)$")
_TABLE_RULE = re.compile(r"^\s*+(?:\|\s*+)?:?-++:?\s*+(?:\|\s*+:?-++:?\s*+)*+\|?\s*+$")  # possessive: linear on runs of spaces
_LIST_ITEM = re.compile(r"^\s*([-*+]|\d+[.)])\s+\S")
_DIRECTIVE_INFO = re.compile(r"^\s*\{([\w:.-]+)\}")
_HTML_TABLE = re.compile(r"^\s{0,3}<table\b", re.IGNORECASE)
_LICENCE = re.compile(
    r"spdx-license-identifier|licensed under the|permission is hereby granted|redistribution and use in source|all rights reserved|"
    r"limitations under the licen[cs]e|without warranty of any kind|copyright \(c\)|copyright ©|©\s*copyright",
    re.IGNORECASE,
)
MAX_LICENCE_LINES = 60
_COMMENT_LINE = re.compile(r"^\s*(?:#|//|/\*|\*|;|--|<!--|-->|\.\. |$)")


def blocks_of(lines: Sequence[str], syntax: str) -> list[Block]:
    """Return the blocks of a section's text.

    Args:
        lines: The text.
        syntax: See `kb.types.Section.syntax`.
    """
    if syntax == "code":
        return _code(lines)
    if syntax == "rst":
        return rst_blocks(lines)
    blocks: list[Block] = []
    last_comment = _last(lines, "-->") if syntax == "markdown" else -1
    last_close = _last(lines, "</table") if syntax == "markdown" else -1
    index = 0
    while index < len(lines):
        if not lines[index].strip():
            index += 1
            continue
        if index <= last_comment and lines[index].lstrip().startswith("<!--"):
            index = comment_end(lines, index)
            continue
        block = _special(lines, index, syntax, last_close)
        if block is None:
            block = _paragraph(lines, index, syntax, last_close)
        blocks.append(block)
        index = block.end
    return blocks


def is_licence(lines: Sequence[str]) -> bool:
    """Return whether lines are a notice of copyright or licence: kept apart, so that equal ones fold into one."""
    return 0 < len(lines) <= MAX_LICENCE_LINES and bool(_LICENCE.search("\n".join(lines)[:4000]))


def _code(lines: Sequence[str]) -> list[Block]:
    """Return the code as one block, a leading licence comment apart."""
    begin = next((index for index, line in enumerate(lines) if line.strip()), len(lines))
    end = begin
    while end < len(lines) and end - begin <= MAX_LICENCE_LINES and lines[end].strip() and _COMMENT_LINE.match(lines[end]):
        end += 1
    if end < len(lines) and end > begin and not lines[end].strip() and is_licence(lines[begin:end]):
        return [Block("text", begin, end, is_apart=True), Block("code", end, len(lines))]
    return [Block("code", 0, len(lines))]


def _last(lines: Sequence[str], mark: str) -> int:
    """Return the last line that holds a mark (-1: none does): behind it nobody looks for the end of what begins there."""
    return next((index for index in range(len(lines) - 1, -1, -1) if mark in lines[index].lower()), -1)


def _special(lines: Sequence[str], index: int, syntax: str, last_close: int) -> Block | None:
    """Return the code or table that begins here, or None; `last_close` is the last line that ends an HTML table."""
    if syntax == "html":
        return _html(lines, index)
    if syntax not in ("markdown", "converted"):
        return None
    fence = _FENCE.match(lines[index])
    if fence:
        end = _fence_end(lines, index, fence.group(1))
        directive = _DIRECTIVE_INFO.match(fence.group(2))
        if directive is None or directive.group(1) in CODE_DIRECTIVES:
            return Block("code", index, end, 1)
        if directive.group(1) in TABLE_DIRECTIVES:
            return Block("table", index, end, list_table_header(lines, index, end))
        return Block("text", index, end)
    if is_table(lines, index):
        end = index
        while end < len(lines) and "|" in lines[end]:
            end += 1
        return Block("table", index, end, 2)
    if syntax == "markdown" and _HTML_TABLE.match(lines[index]):
        end = next((number + 1 for number in range(index, last_close + 1) if "</table" in lines[number].lower()), index)
        if end > index + 1:
            return Block("table", index, end, _html_table_header(lines, index, end))
    return None


def _html(lines: Sequence[str], index: int) -> Block | None:
    """Return code (indented by four) or a table (rows that begin with a bar) as the HTML reader writes them."""
    for kind, mark in (("code", "    "), ("table", "| ")):
        if lines[index].startswith(mark):
            end = last = index
            while end < len(lines) and (lines[end].startswith(mark) or not lines[end].strip()):
                last = end + 1 if lines[end].strip() else last
                end += 1
            if kind == "code" or last - index > 1:
                return Block(kind, index, last, 1 if kind == "table" else 0)
    return None


def _paragraph(lines: Sequence[str], begin: int, syntax: str, last_close: int) -> Block:
    index = begin + 1
    while index < len(lines) and lines[index].strip() and _special(lines, index, syntax, last_close) is None:
        index += 1
    kind = "list" if _LIST_ITEM.match(lines[begin]) else "text"
    return Block(kind, begin, index, is_apart=kind == "text" and is_licence(lines[begin:index]))


def is_table(lines: Sequence[str], index: int) -> bool:
    """Return whether a pipe table begins at a line."""
    return "|" in lines[index] and index + 1 < len(lines) and "|" in lines[index + 1] and bool(_TABLE_RULE.match(lines[index + 1]))


def _fence_end(lines: Sequence[str], begin: int, marker: str) -> int:
    for index in range(begin + 1, len(lines)):
        stripped = lines[index].strip().lstrip("> ")
        if stripped.startswith(marker) and not stripped.strip(marker[0]):
            return index + 1
    return len(lines)


def _html_table_header(lines: Sequence[str], begin: int, end: int) -> int:
    for mark in ("</thead", "</tr"):
        for index in range(begin, end):
            if mark in lines[index].lower():
                return index - begin + 1
    return 1
