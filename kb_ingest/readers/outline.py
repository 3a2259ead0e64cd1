"""From headings with line numbers to a tree of sections."""

from __future__ import annotations

import bisect
import re
from collections.abc import Sequence
from dataclasses import dataclass

from kb.links import ANCHOR
from kb.types import Section


@dataclass(frozen=True)
class Heading:
    """A heading and where it stands; lines are counted from 0."""

    title: str
    level: int
    begin: int
    """First line of the heading."""
    end: int
    """Line after the heading: where its text begins."""


def named_places(lines: Sequence[str], headings: Sequence[Heading], pattern: re.Pattern[str]) -> list[tuple[int, str, str]]:
    """Return the labels of a text as edges for `build_tree`: a label that stands before a heading, other labels between, names its section.

    Args:
        lines: The whole source.
        headings: In order.
        pattern: Matches a line that is a label; its first group that took part is the name.
    """
    begins = {heading.begin for heading in headings}
    found: list[tuple[int, str, str]] = []
    waiting: list[tuple[int, str]] = []
    for number, line in enumerate(lines):
        match = pattern.match(line)
        if match:
            name = next(group for group in match.groups() if group)
            waiting.append((number, " ".join(name.split()).lower()))
        elif number in begins:
            found += [(number, ANCHOR, name) for _, name in waiting]
            waiting = []
        elif waiting and line.strip() and not line.startswith((".. |", ".. _")):
            found += [(own, ANCHOR, name) for own, name in waiting]
            waiting = []
    found += [(own, ANCHOR, name) for own, name in waiting]
    return found


def build_tree(
    title: str,
    lines: Sequence[str],
    headings: Sequence[Heading],
    first: int = 0,
    syntax: str = "markdown",
    *,
    links: Sequence[tuple[int, str, str]] = (),
) -> Section:
    """Return the root section of a document.

    Args:
        title: Of the document.
        lines: The whole source.
        headings: In order.
        first: Line (from 0) where the text begins, after the front matter.
        syntax: See `Section.syntax`.
        links: Line (from 0), label and address of links that the text does not spell, in order of lines.
    """
    position = 0
    places = [line for line, _, _ in links]

    def linked(begin: int, end: int) -> tuple[tuple[str, str], ...]:
        found = links[bisect.bisect_left(places, begin) : bisect.bisect_left(places, end)]
        return tuple(dict.fromkeys((label, address) for _, label, address in found))

    def own(begin: int, end: int) -> str:
        return "\n".join(lines[begin:end])

    def build(heading: Heading) -> Section:
        nonlocal position
        position += 1
        until = headings[position].begin if position < len(headings) else len(lines)
        children = []
        while position < len(headings) and headings[position].level > heading.level:
            children.append(build(headings[position]))
        return Section(
            title=heading.title,
            level=heading.level,
            text=own(heading.end, until),
            line_start=heading.begin + 1,
            line_end=max(until, heading.end),
            children=tuple(children),
            text_line=heading.end + 1,
            syntax=syntax,
            links=linked(heading.begin, until) if links else (),
        )

    until = headings[0].begin if headings else len(lines)
    children = []
    while position < len(headings):
        children.append(build(headings[position]))
    return Section(
        title=title,
        level=0,
        text=own(first, until),
        line_start=first + 1,
        line_end=max(until, first + 1),
        children=tuple(children),
        text_line=first + 1,
        syntax=syntax,
        links=linked(first, until) if links else (),
    )
