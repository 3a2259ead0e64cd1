"""What a check reports, and the exceptions that a folder declares with their reasons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from kb.errors import DocumentError

EXCEPTIONS_FILE = "lint.yaml"
"""Its place is the linted folder: a list of mappings `rule`, `document` (glob), `match` (a piece of the message or of the line, optional), `reason`."""


@dataclass(frozen=True)
class Finding:
    """One thing to mend."""

    rule: str
    """Name of the check."""
    document: str
    """Path from the linted folder."""
    line: int
    """In the document, counted from 1."""
    message: str
    """What is wrong and what would be right."""
    excerpt: str = ""
    """The text it was found in, for exceptions that match it."""

    def to_text(self, folder: Path) -> str:
        """Return `path:line: rule: message`."""
        return f"{folder / self.document}:{self.line}: {self.rule}: {self.message}"


@dataclass(frozen=True)
class Exemption:
    """An entry of the exceptions file."""

    rule: str
    document: str
    reason: str
    match: str = ""

    def covers(self, finding: Finding) -> bool:
        """Return whether the finding is one that this entry excuses."""
        return (
            self.rule == finding.rule
            and fnmatch(finding.document, self.document)
            and (not self.match or self.match in finding.message or self.match in finding.excerpt)
        )


def read_exemptions(folder: Path, rules: Sequence[str]) -> tuple[Exemption, ...]:
    """Return the folder's exceptions; none if it has no such file.

    Raises:
        DocumentError: The file is not a list of complete entries, an entry gives no reason, or names a rule that does not exist.
    """
    path = folder / EXCEPTIONS_FILE
    if not path.is_file():
        return ()
    import yaml

    try:
        rows: Any = yaml.safe_load(path.read_text(encoding="utf-8"))  # Any: YAML
    except (yaml.YAMLError, UnicodeDecodeError) as err:
        raise DocumentError(str(path), f"is not YAML: {err}") from err
    if not isinstance(rows, list):
        raise DocumentError(str(path), "is not a list of entries with `rule`, `document`, `match` and `reason`")
    found = []
    for row in rows:
        if not isinstance(row, dict) or not {"rule", "document", "reason"} <= row.keys() <= {"rule", "document", "reason", "match"}:
            raise DocumentError(str(path), f"an entry wants `rule`, `document`, `reason` and optionally `match`, got {row!r}")
        if not str(row["reason"] or "").strip():
            raise DocumentError(str(path), f"an exception explains itself: no reason for {row!r}")
        if row["rule"] not in rules:
            raise DocumentError(str(path), f"unknown rule {row['rule']!r}; known: {', '.join(sorted(rules))}")
        found.append(Exemption(str(row["rule"]), str(row["document"]), str(row["reason"]), str(row.get("match") or "")))
    return tuple(found)
