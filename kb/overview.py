"""The table of contents and the counts of a base."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from sqlalchemy import Connection, text

from kb.catalogue import Catalogue
from kb.targets import family
from kb.types import TreeNode


def tree(connection: Connection, depth: int) -> tuple[TreeNode, ...]:
    """Return families with their documents and, for `depth` above 2, their sections; a document stands under each of its families.

    Raises:
        ValueError: `depth` is below 1.
    """
    if depth < 1:
        raise ValueError(f"depth must be at least 1, got {depth!r}")
    counts = {str(row[0]): int(row[1]) for row in connection.execute(text("SELECT document_id, count(*) FROM chunks GROUP BY document_id"))}
    families: dict[str, list[TreeNode]] = {}
    totals: dict[str, int] = {}
    for stored in Catalogue.list_documents(connection):
        sections = _sections(connection, stored.document_id, depth - 2) if depth > 2 else ()
        num_chunks = counts.get(stored.document_id, 0)
        node = TreeNode(stored.title, "document", stored.document_id, num_chunks, sections, stored.source, stored.kind.value)
        for name in dict.fromkeys(family(target) for target in stored.targets):
            families.setdefault(name, []).append(node)
            totals[name] = totals.get(name, 0) + num_chunks
    return tuple(TreeNode(name, "family", name, totals[name], tuple(families[name]) if depth > 1 else ()) for name in sorted(families))


def _sections(connection: Connection, document_id: str, levels: int) -> tuple[TreeNode, ...]:
    rows = connection.execute(
        text(
            "SELECT s.section_id, s.parent_id, s.title, count(c.number) FROM sections s LEFT JOIN chunks c ON c.section_id = s.section_id "
            "WHERE s.document_id = :id GROUP BY s.section_id ORDER BY s.position"
        ),
        {"id": document_id},
    ).all()
    below: dict[str | None, list[tuple[str, str, int]]] = {}
    for section_id, parent_id, title, num_chunks in rows:
        below.setdefault(parent_id, []).append((str(section_id), str(title), int(num_chunks)))

    def build(section_id: str, title: str, own: int, left: int) -> TreeNode:
        nodes = tuple(build(*child, left - 1) for child in below.get(section_id, []))
        total = own + sum(node.num_chunks for node in nodes)
        return TreeNode(title, "section", section_id, total, nodes if left > 1 else ())

    roots = below.get(None, [])
    return tuple(build(*child, levels) for root in roots for child in below.get(root[0], []))


def stats(connection: Connection, folder: Path) -> Mapping[str, object]:
    """Return counts, embedder and size."""
    counts = Catalogue.counts(connection)
    kinds = {
        str(row[0]): int(row[1]) for row in connection.execute(text("SELECT kind, count(*) FROM documents GROUP BY kind ORDER BY kind"))
    }
    targets = {
        str(row[0]): int(row[1])
        for row in connection.execute(text("SELECT target, count(*) FROM document_targets GROUP BY target ORDER BY target"))
    }
    return {
        "documents": counts["documents"],
        "sections": counts["sections"],
        "chunks": counts["chunks"],
        "vectors": counts["vectors"],
        "pending_vector_writes": counts["outbox"],
        "links": counts["links"],
        "kinds": kinds,
        "targets": targets,
        "embedder": {key: Catalogue.get_meta(connection, f"embedder_{key}") for key in ("spec", "name", "hash", "dimension", "prefix")},
        "generation": Catalogue.generation(connection),
        "size_bytes": sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
        "home": str(folder.parent),
    }
