"""Run every check over a folder. The checks are functions in `RULES`; a new one is a function and a line there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kb.errors import DocumentError
from kb_ingest.lint.facts import check_facts
from kb_ingest.lint.finding import EXCEPTIONS_FILE, Exemption, Finding, read_exemptions
from kb_ingest.lint.links import check_links, check_reachable
from kb_ingest.lint.metadata import check_front_matter, check_sources, read_error
from kb_ingest.lint.page import Page, read_page
from kb_ingest.lint.units import check_markup, check_units
from kb_ingest.readers.markdown import MarkdownReader
from kb_ingest.walk import walk

Check = Callable[[Mapping[str, Page], Path], Iterator[Finding]]

RULES: Mapping[str, Check] = {
    "front-matter": check_front_matter,
    "source": check_sources,
    "link": check_links,
    "reachable": check_reachable,
    "unit": check_units,
    "markup": check_markup,
    "fact": check_facts,
}
EXEMPTION_RULE = "exception"
"""The rule of findings about the exceptions file itself."""


@dataclass(frozen=True)
class Report:
    """What was found in a folder."""

    folder: Path
    num_documents: int
    findings: tuple[Finding, ...]
    """Sorted by document and line."""
    excused: tuple[tuple[Finding, Exemption], ...]
    """Findings that the folder's exceptions cover."""

    def to_json(self) -> dict[str, Any]:  # Any: JSON
        """Return a JSON-ready mapping."""
        return {
            "folder": str(self.folder),
            "documents": self.num_documents,
            "clean": not self.findings,
            "findings": [asdict(finding) for finding in self.findings],
            "excused": [{**asdict(finding), "reason": exemption.reason} for finding, exemption in self.excused],
        }


def lint(folder: Path) -> Report:
    """Check the Markdown documents of a folder.

    Args:
        folder: Any folder; one that is not a knowledge folder gets findings for what it lacks.

    Raises:
        DocumentError: It is no folder, holds no Markdown, or its exceptions file is broken.
    """
    if not folder.is_dir():
        raise DocumentError(str(folder), "is not a folder")
    exemptions = read_exemptions(folder, (*RULES, EXEMPTION_RULE))
    pages, found = _read(folder)
    for check in RULES.values():
        found += check(pages, folder)
    findings, excused, unused = [], [], dict.fromkeys(exemptions)
    for finding in sorted(found, key=lambda item: (item.document, item.line, item.rule, item.message)):
        exemption = next((item for item in exemptions if item.covers(finding)), None)
        if exemption:
            excused.append((finding, exemption))
            unused.pop(exemption, None)
        else:
            findings.append(finding)
    for exemption in unused:
        message = f"excuses nothing any more: rule {exemption.rule}, document {exemption.document}, match {exemption.match!r}; remove it"
        findings.append(Finding(EXEMPTION_RULE, EXCEPTIONS_FILE, 1, message))
    return Report(folder, len(pages), tuple(findings), tuple(excused))


def _read(folder: Path) -> tuple[dict[str, Page], list[Finding]]:
    pages: dict[str, Page] = {}
    found: list[Finding] = []
    for file in walk(folder):
        if file.path.suffix.lower() not in MarkdownReader.suffixes:
            continue
        name = file.path.relative_to(file.root or folder).as_posix()
        try:
            pages[name] = read_page(file.path, name)
        except DocumentError as err:
            found.append(read_error(name, err))
    if not pages and not found:
        raise DocumentError(str(folder), "holds no Markdown documents")
    return pages, found
