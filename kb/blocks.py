"""Blocks of a section's text: fenced code, as kernel documents hand it to coders, and the units that reStructuredText is cut into."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from kb.types import CodeBlock, Section

_DIRECTIVE = re.compile(r"^(\s*)\.\. ([\w.-]+)::")
_COMMENT = re.compile(r"^\.\.(?:\s+(?!\[|_|\||[\w.:+-]+::)\S.*|\s*)$")
_LABEL = re.compile(r"^\.\. _[^:`]+:\s*$")
_RULE = re.compile(r"^\s*={2,}(\s+={2,})*\s*$")
_GRID = re.compile(r"^\s*\+[-=+]+\+\s*$")
CODE_DIRECTIVES = frozenset({"code", "code-block", "sourcecode", "parsed-literal", "highlight", "math", "productionlist"})
TABLE_DIRECTIVES = frozenset({"list-table", "csv-table"})


@dataclass(frozen=True)
class Block:
    """Lines that belong together."""

    kind: str
    """`text`, `code`, `table` or `list`."""
    begin: int
    """Index of the first line in the section's text."""
    end: int
    """Index after the last line."""
    header: int = 0
    """Number of lines at the beginning that every part repeats: table header, opening fence, directive."""
    is_apart: bool = False
    """Never joined with its neighbours: a licence, which then folds with its copies on other pages."""


_OPEN = re.compile(r"^(\s{0,3})(`{3,}|~{3,})\s*(.*?)\s*$")


def code_blocks(section: Section) -> tuple[CodeBlock, ...]:
    """Return the fenced blocks of a section and those below it, in order."""
    found: list[CodeBlock] = []
    if section.syntax == "markdown":
        found += _of_text(section)
    for child in section.children:
        found += code_blocks(child)
    return tuple(found)


def _of_text(section: Section) -> list[CodeBlock]:
    first = section.text_line or section.line_start + (1 if section.level > 0 else 0)
    lines = section.text.split("\n")
    found, index = [], 0
    while index < len(lines):
        opening = _OPEN.match(lines[index])
        if not opening or (opening.group(2)[0] == "`" and "`" in opening.group(3)):
            index += 1
            continue
        marker, info = opening.group(2), " ".join(opening.group(3).split())
        end = index + 1
        while end < len(lines) and not _closes(lines[end], marker):
            end += 1
        indent = len(opening.group(1))
        code = [line[indent:] if line[:indent].isspace() or not indent else line for line in lines[index + 1 : end]]
        found.append(CodeBlock(info, "\n".join(code) + ("\n" if code else ""), first + index + 1, first + max(end - 1, index)))
        index = end + 1
    return found


def _closes(line: str, marker: str) -> bool:
    stripped = line.strip()
    return len(line) - len(line.lstrip()) <= 3 and stripped.startswith(marker) and not stripped.strip(marker[0])


def rst_blocks(lines: Sequence[str]) -> list[Block]:
    """Return the blocks of a reStructuredText section: directives with their content, literal blocks, grid and simple tables, lists, paragraphs."""
    blocks: list[Block] = []
    index = 0
    while index < len(lines):
        line = lines[index]
        if not line.strip():
            index += 1
            continue
        begin = index
        if _LABEL.match(line):
            index += 1
            continue
        if _COMMENT.match(line):
            index = _indented_end(lines, begin + 1, 0)
            continue
        directive = _DIRECTIVE.match(line)
        if directive and directive.group(2) in CODE_DIRECTIVES | TABLE_DIRECTIVES:
            index = _indented_end(lines, begin + 1, len(directive.group(1)))
            is_rows = directive.group(2) in TABLE_DIRECTIVES
            header = list_table_header(lines, begin, index) if is_rows else 1
            blocks.append(Block("table" if is_rows else "code", begin, index, header))
        elif _GRID.match(line):
            while index < len(lines) and lines[index].lstrip().startswith(("+", "|")):
                index += 1
            blocks.append(Block("table", begin, index, _grid_header(lines, begin, index)))
        elif _RULE.match(line) and " " in line.strip():
            index, header = _simple_table(lines, begin)
            blocks.append(Block("table", begin, index, header))
        else:
            while (
                index < len(lines)
                and lines[index].strip()
                and not (index > begin and (_GRID.match(lines[index]) or _DIRECTIVE.match(lines[index]) or _LABEL.match(lines[index])))
            ):
                index += 1
            is_list = line.lstrip().startswith(("- ", "* ", "+ ", "#. ", "1. "))
            if lines[index - 1].rstrip().endswith("::") and not directive:
                indent = len(line) - len(line.lstrip())
                until = _indented_end(lines, index, indent)
                if until > index:
                    blocks.append(Block("code", begin, until, min(index - begin, 2)))
                    index = until
                    continue
            blocks.append(Block("list" if is_list else "text", begin, index))
    return blocks


def list_table_header(lines: Sequence[str], begin: int, end: int) -> int:
    """Return the number of lines up to the end of the first row of a list table, or of a CSV table's options and first line."""
    index = begin + 1
    while index < end and (not lines[index].strip() or lines[index].strip().startswith(":")):
        index += 1
    if index >= end or not lines[index].lstrip().startswith(("* - ", "- - ", "* -")):
        return min(index - begin, end - begin)
    indent = len(lines[index]) - len(lines[index].lstrip())
    row = index + 1
    while row < end and not (lines[row].strip() and len(lines[row]) - len(lines[row].lstrip()) <= indent):
        row += 1
    while row > index and not lines[row - 1].strip():
        row -= 1
    return row - begin


def _indented_end(lines: Sequence[str], index: int, indent: int) -> int:
    end = index
    while index < len(lines):
        if lines[index].strip():
            if len(lines[index]) - len(lines[index].lstrip()) <= indent:
                break
            end = index + 1
        index += 1
    return end


def _grid_header(lines: Sequence[str], begin: int, end: int) -> int:
    for index in range(begin + 1, end):
        if set(lines[index].strip()) <= {"+", "="}:
            return index - begin + 1
    return 0


def _simple_table(lines: Sequence[str], begin: int) -> tuple[int, int]:
    """Return the line after a simple table and the height of its header: it has two rules, or three with a header."""
    rules = [begin]
    for index in range(begin + 1, len(lines)):
        if _RULE.match(lines[index]):
            rules.append(index)
            if len(rules) == 3 or index + 1 >= len(lines) or not lines[index + 1].strip():
                break
        elif not lines[index].strip() and len(rules) >= 2 and (index + 1 >= len(lines) or not lines[index + 1].strip()):
            break
    return rules[-1] + 1, rules[1] - begin + 1 if len(rules) == 3 else 0


def comment_end(lines: Sequence[str], begin: int) -> int:
    """Return the line after an HTML comment; one that never ends is one line of text."""
    for index in range(begin, len(lines)):
        if "-->" in lines[index]:
            return index + 1
    return begin + 1
