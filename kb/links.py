"""Links and cross-references of a section, as edges: label and address, as they are written."""

from __future__ import annotations

import re
from collections.abc import Iterator

from kb.types import Section

MAX_LINKS = 500
"""Of one section."""
INCLUDE = "include"
"""Label of an edge to a file whose text belongs at this place."""
ANCHOR = "#anchor"
"""Label of an edge that says: the label named as its address means this section. References by label resolve through it."""

_INLINE = re.compile(r"(?<!!)\[([^\]\n]{1,200})\]\(\s{0,9}<?([^()\s>]{1,500})>?(?:\s[^)\n]{0,300})?\)")
_DEFINITION = re.compile(r"^ {0,3}\[([^\]\n^]{1,200})\]:[ \t]*\n?[ \t]*<?(\S{1,500}?)>?(?:\s+[\"'(].*)?$", re.MULTILINE)
_MYST_INCLUDE = re.compile(r"^[ \t]*(?:`{3,}|:{3,}|~{3,})\s*\{(?:include|literalinclude)\}\s*(\S{1,500})\s*$", re.MULTILINE)
_MYST_ROLE = re.compile(r"\{(doc|ref|any|numref|download)\}`(?:([^`<]{1,200}?)\s*<([^`>]{1,500})>|([^`<]{1,500}))`")
_RST_ROLE = re.compile(r":(doc|ref|any|numref|download):`(?:([^`<]{1,200}?)\s*<([^`>]{1,500})>|([^`<]{1,500}))`")
_RST_LINK = re.compile(r"`([^`<\n]{1,200}?)\s*<([^`>\s]{1,500})>`__?")
_RST_INCLUDE = re.compile(r"^[ \t]*\.\. (?:include|literalinclude)::\s*(\S{1,500})\s*$", re.MULTILINE)
_RST_TARGET = re.compile(r"^\.\. _([^:`\n]{1,200}):\s+(\S{1,500})\s*$", re.MULTILINE)
_TOCTREE = re.compile(r"^(\s*)(?:\.\. toctree::|`{3,}\{toctree\}|:{3,}\{toctree\})")


def links_in(section: Section) -> list[tuple[str, str]]:
    """Return the links of a section's own text, each once, in the order of their kinds."""
    found = list(section.links)
    if section.syntax == "markdown":
        found += [(match.group(1), match.group(2)) for match in _INLINE.finditer(section.text)]
        found += _definitions(_DEFINITION, section.text)
        found += [(INCLUDE, match.group(1)) for match in _MYST_INCLUDE.finditer(section.text)]
        found += _roles(_MYST_ROLE, section.text)
        found += _toctree(section.text)
    elif section.syntax == "rst":
        found += _roles(_RST_ROLE, section.text)
        found += [(" ".join(match.group(1).split()), match.group(2)) for match in _RST_LINK.finditer(section.text)]
        found += _definitions(_RST_TARGET, section.text)
        found += [(INCLUDE, match.group(1)) for match in _RST_INCLUDE.finditer(section.text)]
        found += _toctree(section.text)
    return list(dict.fromkeys(found))[:MAX_LINKS]


def _definitions(pattern: re.Pattern[str], text: str) -> Iterator[tuple[str, str]]:
    return ((match.group(1), match.group(2)) for match in pattern.finditer(text) if not match.group(2).startswith("data:"))


def _roles(pattern: re.Pattern[str], text: str) -> Iterator[tuple[str, str]]:
    for match in pattern.finditer(text):
        address = match.group(3) or match.group(4)
        yield (match.group(2) or address).strip(), address.strip()


def _toctree(text: str) -> Iterator[tuple[str, str]]:
    """Yield the entries of tables of contents: `path` or `Title <path>`."""
    lines = text.split("\n")
    index = 0
    while index < len(lines):
        opening = _TOCTREE.match(lines[index])
        index += 1
        if not opening:
            continue
        while index < len(lines) and not lines[index].strip().startswith(("```", ":::")):
            line = lines[index]
            if line.strip() and ".. " in lines[index - 1] + opening.group(0) and len(line) - len(line.lstrip()) <= len(opening.group(1)):
                break
            entry = line.strip()
            titled = re.match(r"(.{1,200}?)\s*<([^>]{1,500})>$", entry)
            if titled:
                yield titled.group(1), titled.group(2)
            elif entry and not entry.startswith(":") and " " not in entry:
                yield entry.rsplit("/", 1)[-1], entry
            index += 1
