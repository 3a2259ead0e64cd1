"""Past versions of documents: what an update or a removal ended is kept, so that it can be shown and compared.

A version is kept as its sections (heading path, text, lines), compressed. The newest `KEPT_TEXTS` past versions of a document keep their text; older ones
only their hash and date.
"""

from __future__ import annotations

import difflib
import json
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, delete, func, insert, select

from kb.errors import UnknownNameError
from kb.schema import document_texts, document_versions, documents, sections

KEPT_TEXTS = 20


@dataclass(frozen=True)
class Version:
    """One version of a document."""

    version: int
    content_hash: str
    """SHA-256 of the raw bytes, hexadecimal."""
    ended_at: float | None
    """Seconds since 1970 when it was replaced or removed; None: it is the current one."""
    ended: str
    """`updated`, `removed` or, for the current one, empty."""
    has_text: bool
    """Whether its sections are still there to be shown and compared."""


@dataclass(frozen=True)
class PastSection:
    """A section of a version."""

    path: tuple[str, ...]
    text: str
    line_start: int
    occurrence: int = 1
    """Which of the sections with this path it is, from 1."""


@dataclass(frozen=True)
class SectionChange:
    """How one section differs between two versions."""

    change: str
    """`added`, `removed`, `edited` or `moved` (same text under another heading)."""
    path: tuple[str, ...]
    """Heading path in the later version; in the earlier one for `removed`."""
    before: str = ""
    after: str = ""
    former_path: tuple[str, ...] = ()
    """For `moved`: where it stood."""

    def lines(self) -> list[str]:
        """Return the difference line by line, as `diff -u` marks them, without file headers."""
        found = difflib.unified_diff(self.before.split("\n"), self.after.split("\n"), lineterm="", n=1)
        return [line for line in found if not line.startswith(("---", "+++"))]


def last_version(connection: Connection, document_id: str) -> int:
    """Return the number of the last version that ended, 0 if none."""
    found = connection.execute(select(func.max(document_versions.c.version)).where(document_versions.c.document_id == document_id))
    return int(found.scalar_one_or_none() or 0)


def keep_version(connection: Connection, document_id: str, ended: str) -> None:
    """Keep the version that stands in the tables, before it is replaced or removed.

    Args:
        ended: `updated` or `removed`.
    """
    row = connection.execute(select(documents).where(documents.c.document_id == document_id)).mappings().one()
    key = {"document_id": document_id, "version": row["version"]}
    for table in (document_versions, document_texts):  # a base of schema 1 may hold a number twice
        connection.execute(delete(table).where(table.c.document_id == document_id, table.c.version == row["version"]))
    connection.execute(insert(document_versions).values(**key, content_hash=row["content_hash"], ended_at=time.time()))
    record = zlib.compress(json.dumps([[*item] for item in _stored_rows(connection, document_id)], ensure_ascii=False).encode(), 6)
    connection.execute(insert(document_texts).values(**key, source=row["source"], title=row["title"], ended=ended, record=record))
    oldest = row["version"] - KEPT_TEXTS
    connection.execute(delete(document_texts).where(document_texts.c.document_id == document_id, document_texts.c.version <= oldest))


def history(connection: Connection, document_id: str) -> tuple[Version, ...]:
    """Return the versions of a document, newest first; empty if it never was there."""
    texts = {
        int(row.version): str(row.ended)
        for row in connection.execute(
            select(document_texts.c.version, document_texts.c.ended).where(document_texts.c.document_id == document_id)
        )
    }
    found = [
        Version(int(row.version), str(row.content_hash), float(row.ended_at), texts.get(int(row.version), "updated"), row.version in texts)
        for row in connection.execute(select(document_versions).where(document_versions.c.document_id == document_id))
    ]
    current = connection.execute(
        select(documents.c.version, documents.c.content_hash).where(documents.c.document_id == document_id)
    ).first()
    if current is not None:
        found.append(Version(int(current.version), str(current.content_hash), None, "", True))
    return tuple(sorted(found, key=lambda version: -version.version))


def sections_of(connection: Connection, document_id: str, version: int) -> list[PastSection]:
    """Return the sections of a version, in order.

    Raises:
        UnknownNameError: There is no such version, or its text is not kept any more.
    """
    current = connection.execute(select(documents.c.version).where(documents.c.document_id == document_id)).scalar_one_or_none()
    if current == version:
        rows: Sequence[Sequence[object]] = _stored_rows(connection, document_id)
    else:
        chosen = (document_texts.c.document_id == document_id, document_texts.c.version == version)
        record = connection.execute(select(document_texts.c.record).where(*chosen)).scalar_one_or_none()
        if record is None:
            known = ", ".join(str(item.version) for item in history(connection, document_id) if item.has_text)
            raise UnknownNameError(f"no text of version {version}; versions that have one: {known or 'none'}")
        rows = json.loads(zlib.decompress(record))
    found: list[PastSection] = []
    seen: dict[tuple[str, ...], int] = {}
    for path, section_text, line_start in rows:
        assert isinstance(path, list)
        key = tuple(str(part) for part in path)
        seen[key] = seen.get(key, 0) + 1
        found.append(PastSection(key, str(section_text), int(str(line_start)), seen[key]))
    return found


def compare(before: Sequence[PastSection], after: Sequence[PastSection]) -> tuple[SectionChange, ...]:
    """Return how the sections differ, in the order of the later version, removed ones last; white space at line ends does not count."""
    old = {(section.path, section.occurrence): _plain(section.text) for section in before}
    new = {(section.path, section.occurrence): _plain(section.text) for section in after}
    gone = {key: value for key, value in old.items() if key not in new}
    found: list[SectionChange] = []
    for key, value in new.items():
        if key in old:
            if old[key] != value:
                found.append(SectionChange("edited", key[0], old[key], value))
            continue
        former = next((place for place, text in gone.items() if text == value and value), None)
        if former is not None:
            del gone[former]
            found.append(SectionChange("moved", key[0], value, value, former[0]))
        elif value or not any(other[0][: len(key[0])] == key[0] and other != key for other in new):
            found.append(SectionChange("added", key[0], "", value))
    found += [SectionChange("removed", key[0], value, "") for key, value in gone.items() if value or key[0]]
    return tuple(found)


def _plain(value: str) -> str:
    return "\n".join(line.rstrip() for line in value.split("\n")).strip("\n")


def _stored_rows(connection: Connection, document_id: str) -> list[tuple[list[str], str, int]]:
    query = select(sections.c.path, sections.c.text, sections.c.line_start).where(sections.c.document_id == document_id)
    return [(list(row.path), str(row.text), int(row.line_start)) for row in connection.execute(query.order_by(sections.c.position))]
