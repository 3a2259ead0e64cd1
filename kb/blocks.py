"""Fenced code blocks of sections: what kernel documents hand to coders."""

from __future__ import annotations

import re

from kb.types import CodeBlock, Section

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
