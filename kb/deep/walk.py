"""Walking the tree from what was found: links and cross-references to other documents, and names that lead on."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from sqlalchemy import bindparam, text

from kb.deep.decompose import content_words
from kb.labels import label_key, labels_of
from kb.words import STOP_WORDS, stem, tokens

if TYPE_CHECKING:
    from kb.deep.evidence import Evidence
    from kb.store import KnowledgeBase


class Atlas:
    """The sources of a base and the links between them, read once for a search.

    Args:
        base: What is searched.
    """

    def __init__(self, base: KnowledgeBase) -> None:
        self._base = base
        self._known: dict[str, None] | None = None
        self._labels: dict[str, str] = {}
        self._folders: dict[str, frozenset[str]] | None = None

    def linked(self, chunk_ids: Sequence[str], question: str) -> list[str]:
        """Return the sources that the sections of these chunks link to; first those whose label or file name shares words with the question."""
        if not chunk_ids:
            return []
        if self._known is None:
            self._known = dict.fromkeys(stored.source for stored in self._base.documents())
            self._labels = {label: place.source for label, place in labels_of(self._base).items()}
        statement = text(
            "SELECT d.source, l.address, l.label FROM chunks c JOIN links l ON l.section_id = c.section_id "
            "JOIN documents d ON d.document_id = c.document_id WHERE c.chunk_id IN :ids ORDER BY c.number, l.position"
        ).bindparams(bindparam("ids", expanding=True))
        wanted = {stem(term) for term in content_words(question)}
        found: dict[str, int] = {}
        with self._base.catalogue.read() as connection:
            for source, address, label in connection.execute(statement, {"ids": list(chunk_ids)}):
                target = self._resolve(str(source), str(address).partition("#")[0]) or self._labels.get(label_key(str(address)))
                if target is not None and target != source:
                    there = {stem(term) for term in content_words(f"{label} {posixpath.basename(target).partition('.')[0]}")}
                    found[target] = max(found.get(target, 0), len(there & wanted))
        return sorted(found, key=lambda target: -found[target])

    def collections(self, terms: Sequence[str]) -> list[str]:
        """Return the topmost folders whose name holds one of some terms as a word, with a slash behind; empty if all documents lie in one folder."""
        if self._folders is None:
            tops = dict.fromkeys(stored.source.partition("/")[0] for stored in self._base.documents() if "/" in stored.source)
            self._folders = {f"{top}/": frozenset(tokens(top.replace("_", " "))) for top in tops} if len(tops) > 1 else {}
        wanted = set(terms)
        return [folder for folder, there in self._folders.items() if there & wanted]

    def _resolve(self, source: str, address: str) -> str | None:
        """Return the source that a relative address means, with or without its extension."""
        if not address or "://" in address or self._known is None:
            return None
        plain = posixpath.normpath(posixpath.join(posixpath.dirname(source), address))
        candidates = [plain, *(f"{plain}{ending}" for ending in (".md", ".rst", "/README.md", "/index.md"))]
        return next((candidate for candidate in candidates if candidate in self._known), None)


def feedback_terms(best: Iterable[Evidence], part: str, limit: int) -> list[str]:
    """Return words that several of the best sections share and the part lacks (pseudo relevance feedback, Lavrenko and Croft 2001)."""
    mine = set(content_words(part))
    counts: dict[str, float] = {}
    for place, item in enumerate(best):
        heading = set(tokens(" ".join(item.hit.section_path[-2:])))
        for term in (heading | set(tokens(item.hit.text[:600]))) - STOP_WORDS - mine:
            if len(term) > 2 and not term.isdigit():
                counts[term] = counts.get(term, 0.0) + (2.0 if term in heading else 1.0) / (2 + place)
    ranked = sorted(counts, key=lambda term: (-counts[term], term))
    return ranked[:limit]
