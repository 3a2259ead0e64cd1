"""Files that documents include (`include`, `literalinclude`): taken in as documents of their own, so that citations name the file that says it.

Only files inside the ingested directory are, links followed to their end; the directive itself is never executed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from sqlalchemy import select

from kb.links import INCLUDE
from kb.schema import documents, links
from kb.store import KnowledgeBase
from kb_ingest.walk import Found


def included_files(base: KnowledgeBase, root: Path, found: Sequence[Found], exclude: Sequence[str] = ()) -> list[Found]:
    """Return the files that the documents of a directory include and that are not among those found.

    Args:
        base: Holds the documents with their edges.
        root: The ingested directory, absolute.
        found: What is known already.
        exclude: Patterns of files to leave out.
    """
    import pathspec

    unwanted = pathspec.GitIgnoreSpec.from_lines(exclude)
    known = {item.path for item in found}
    real_root = root.resolve()
    more: dict[Path, None] = {}
    for page, address in _edges(base, root):
        for candidate in _candidates(root, Path(page), address):
            if candidate in known or candidate in more:
                break
            if not candidate.is_file() or not candidate.resolve().is_relative_to(real_root) or not candidate.is_relative_to(root):
                continue
            if not unwanted.match_file(candidate.relative_to(root).as_posix()) and ".git" not in candidate.parts:
                more[candidate] = None
            break
    return [Found(path, root) for path in sorted(more)]


def _edges(base: KnowledgeBase, root: Path) -> list[tuple[str, str]]:
    """Return path of the page and address of what it includes, for the documents found under a directory."""
    statement = (
        select(documents.c.path, links.c.address)
        .join(documents, documents.c.document_id == links.c.document_id)
        .where(links.c.label == INCLUDE, documents.c.root == str(root))
        .order_by(documents.c.path, links.c.address)
    )
    with base.catalogue.read() as connection:
        return [(str(row[0]), str(row[1])) for row in connection.execute(statement)]


def _candidates(root: Path, page: Path, address: str) -> Iterator[Path]:
    """Yield where an address may point: beside the page, or, with a leading slash, below the directory or a folder above the page."""
    import os

    if "\0" in address or "://" in address or address.startswith("<"):
        return
    if not address.startswith("/"):
        yield Path(os.path.normpath(page.parent / address))
        return
    for folder in (page.parent, *page.parents):
        if folder.is_relative_to(root):
            yield Path(os.path.normpath(folder / address.lstrip("/")))
