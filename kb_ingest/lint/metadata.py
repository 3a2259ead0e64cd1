"""Checks of front matter: it is there and valid, and says where the statements come from."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kb.errors import DocumentError
from kb.targets import normalise
from kb.types import Kind, Trust
from kb_ingest.lint.finding import Finding
from kb_ingest.lint.page import Page
from kb_ingest.lint.units import UNIT_OF_ENDING

_KNOWN_KEYS = [
    "title",
    "kind",
    "targets",
    "trust",
    "valid_for",
    "sources",
    "see_also",
    "limits",
    "profile",
    "signature",
    "kernel",
    "family",
    "language",
    "matches",
    "requires",
    "slots",
    "reduces",
    "tunables",
    "constraints",
    "precision_class",
    "deterministic",
    "priority",
    "evidence",
    "example",
    "granule",
    "tolerance",
    "cases",
]
_VERSIONED = "valid_for"


def check_front_matter(pages: Mapping[str, Page], root: Path) -> Iterator[Finding]:
    """Every document has a title, a kind, targets and a trust that exist; limits are complete; no name is a misspelling of a known one."""
    for page in pages.values():
        if not page.skipped:
            yield Finding(
                "front-matter", page.name, 1, "no front matter: begin with `---`, `title`, `kind`, `targets`, `trust`, `sources`, `---`"
            )
            continue
        for key, message in _metadata_problems(page.front_matter):
            yield Finding("front-matter", page.name, page.line_of(key), message)


def _metadata_problems(matter: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if not isinstance(matter.get("title"), str) or not matter["title"].strip():
        yield "title", "`title` wants a text"
    yield from _closed(matter, "kind", [item.value for item in Kind])
    if matter.get("kind") != Kind.KERNEL or "trust" in matter:
        yield from _closed(matter, "trust", [item.value for item in Trust])
    targets = matter.get("targets", matter.get("target"))
    targets = [targets] if isinstance(targets, str) else targets
    if not isinstance(targets, list) or not targets:
        yield "targets", '`targets` wants a list such as [nvidia] or ["cuda:sm_90"]'
    for target in targets if isinstance(targets, list) else ():
        try:
            normalise(str(target))
        except ValueError as err:
            yield "targets", str(err)
    yield from _version_problems(matter.get(_VERSIONED, {}))
    for name in matter:
        near = difflib.get_close_matches(name, _KNOWN_KEYS, n=1, cutoff=0.8)
        if near and name not in _KNOWN_KEYS:
            yield name, f"unknown name {name!r}; did you mean {near[0]!r}?"
    yield from _limit_problems(matter.get("limits", {}))


def _closed(matter: Mapping[str, Any], name: str, known: list[str]) -> Iterator[tuple[str, str]]:
    if matter.get(name) not in known:
        yield name, f"`{name}` wants one of {', '.join(known)}, got {matter.get(name)!r}"


def _version_problems(ranges: Any) -> Iterator[tuple[str, str]]:
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    if not isinstance(ranges, Mapping):
        yield _VERSIONED, f'`{_VERSIONED}` wants a mapping such as {{triton: ">=3.6"}}'
        return
    for package, versions in ranges.items():
        try:
            SpecifierSet(str(versions))
        except InvalidSpecifier:
            yield _VERSIONED, f'not a version range for {package}: {versions!r}; write for example ">=3.6,<4"'


def _limit_problems(limits: Any) -> Iterator[tuple[str, str]]:
    if not isinstance(limits, Mapping):
        yield "limits", "`limits` wants a mapping from names to {value, unit, source, trust}"
        return
    for name, limit in limits.items():
        if not isinstance(limit, Mapping) or not {"value", "unit", "source", "trust"} <= limit.keys():
            yield name, f"the limit {name} wants value, unit, source and trust"
            continue
        if limit["trust"] not in [item.value for item in Trust]:
            yield name, f"the limit {name} has an unknown trust {limit['trust']!r}"
        if not str(limit["source"] or "").strip():
            yield name, f"the limit {name} names no source"
        units = next((units for ending, units in UNIT_OF_ENDING.items() if name.endswith(ending)), None)
        if units and limit["unit"] not in units:
            yield name, f"the limit {name} is in {limit['unit']!r}, its name says {' or '.join(units)}"


def check_sources(pages: Mapping[str, Page], root: Path) -> Iterator[Finding]:
    """Every document names its sources (a kernel's code is its own), and those that are files exist."""
    for page in pages.values():
        if not page.skipped:
            continue
        sources = page.front_matter.get("sources", [])
        line = page.line_of("sources")
        if not isinstance(sources, list) or not all(isinstance(item, str) and item.strip() for item in sources):
            yield Finding(
                "source", page.name, line, "`sources` wants a list of texts: addresses, papers with section, manuals with page, files"
            )
        elif not sources and not page.front_matter.get("limits") and page.front_matter.get("kind") != Kind.KERNEL:
            yield Finding("source", page.name, line, "no `sources`: say where the statements come from")
        else:
            for source in sources:
                if _looks_like_file(source) and not any((base / source).exists() for base in (page.path.parent, root, root.parent)):
                    yield Finding(
                        "source", page.name, line, f"no such file: {source!r} (looked beside the document, in and above the folder)"
                    )


def _looks_like_file(source: str) -> bool:
    return "://" not in source and " " not in source.strip() and ("/" in source or source.endswith((".md", ".json", ".jsonl", ".py")))


def read_error(name: str, error: DocumentError) -> Finding:
    """Return the finding for a document that cannot be read at all."""
    return Finding("front-matter", name, 1, error.reason)
