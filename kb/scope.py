"""Filters as SQL: one expression that every leg and level uses, so that none can leak what another holds back."""

from __future__ import annotations

from sqlalchemy import Connection, text

from kb.status import NOT_CURRENT
from kb.targets import visible
from kb.types import Filters


def _admits(ranges: dict[str, str], versions: dict[str, str]) -> bool:
    from packaging.specifiers import InvalidSpecifier, SpecifierSet
    from packaging.version import InvalidVersion, Version

    for name, wanted in versions.items():
        if name in ranges:
            try:
                if not SpecifierSet(str(ranges[name])).contains(Version(wanted), prereleases=True):
                    return False
            except (InvalidSpecifier, InvalidVersion):
                continue
    return True


def excluded_by_version(connection: Connection, versions: dict[str, str]) -> list[str]:
    """Return the ids of documents whose stated version ranges do not admit these versions."""
    import json

    rows = connection.execute(text("SELECT document_id, valid_for FROM documents WHERE valid_for <> '{}'"))
    return [str(row[0]) for row in rows if not _admits(json.loads(row[1]) if isinstance(row[1], str) else row[1], versions)]


def scope(connection: Connection, filters: Filters) -> tuple[str, dict[str, object]]:
    """Return SQL that selects the chunk numbers the filters allow, with its parameters; empty SQL means all.

    Raises:
        ValueError: The target or a version is not written as one.
    """
    conditions: list[str] = []
    values: dict[str, object] = {}

    def among(column: str, prefix: str, allowed: tuple[str, ...] | list[str], negate: bool = False) -> None:
        names = []
        for index, value in enumerate(allowed):
            values[f"{prefix}{index}"] = value
            names.append(f":{prefix}{index}")
        conditions.append(f"{column} {'NOT ' if negate else ''}IN ({', '.join(names)})")

    if filters.target:
        among("t.target", "target", visible(filters.target))
        conditions[-1] = f"d.document_id IN (SELECT t.document_id FROM document_targets t WHERE {conditions[-1]})"
    if filters.kinds:
        among("d.kind", "kind", [kind.value for kind in filters.kinds])
    if filters.trust:
        among("d.trust", "trust", [trust.value for trust in filters.trust])
    if filters.source:
        values["source"] = filters.source
        values["source_length"] = len(filters.source)
        conditions.append("substr(d.source, 1, :source_length) = :source")
    if filters.valid_for:
        excluded = excluded_by_version(connection, dict(filters.valid_for))
        if excluded:
            among("d.document_id", "excluded", excluded, negate=True)
    if not filters.include_retired and connection.execute(text(NOT_CURRENT + " LIMIT 1")).first() is not None:
        conditions.append(f"d.document_id NOT IN ({NOT_CURRENT})")
    if not conditions:
        return "", {}
    return f"SELECT c.number FROM chunks c JOIN documents d ON d.document_id = c.document_id WHERE {' AND '.join(conditions)}", values
