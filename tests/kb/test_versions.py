"""Versions of a document and the differences between them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kb.errors import UnknownNameError
from kb.store import KnowledgeBase
from kb.types import Document
from kb.versions import KEPT_TEXTS


def test_history_lists_every_version_with_its_hash(base: KnowledgeBase, make_document: Callable[..., Document]) -> None:
    documents = [make_document("a.md", {"One": word}) for word in ("alpha", "beta", "gamma")]
    for document in documents:
        base.add_document(document)
    assert [(item.version, item.content_hash, item.ended) for item in base.history("a.md")] == [
        (3, documents[2].content_hash, ""),
        (2, documents[1].content_hash, "updated"),
        (1, documents[0].content_hash, "updated"),
    ]
    assert base.history(base.documents()[0].document_id) == base.history("a.md")


def test_diff_names_sections_that_were_added_removed_edited_and_moved(base: KnowledgeBase, make_document: Callable[..., Document]) -> None:
    base.add_document(make_document("a.md", {"Same": "s", "Edited": "one\ntwo", "Old name": "moved text", "Gone": "g"}))
    base.add_document(make_document("a.md", {"Same": "s", "Edited": "one\n2", "New name": "moved text", "New": "n"}))
    changes = {change.path[-1]: change for change in base.diff("a.md")}
    assert {name: change.change for name, change in changes.items()} == {
        "Edited": "edited",
        "New name": "moved",
        "New": "added",
        "Gone": "removed",
    }
    assert changes["Edited"].lines()[1:] == [" one", "-two", "+2"]
    assert changes["New name"].former_path[-1] == "Old name"


def test_any_two_versions_can_be_compared(base: KnowledgeBase, make_document: Callable[..., Document]) -> None:
    for word in ("alpha", "beta", "alpha"):
        base.add_document(make_document("a.md", {"One": word}))
    assert base.diff("a.md", 1, 3) == ()
    assert [(change.before, change.after) for change in base.diff("a.md", 2, 1)] == [("beta", "alpha")]
    assert [change.change for change in base.diff("a.md", after=1)] == ["added"]


def test_removed_document_keeps_its_history_and_numbers_go_on(base: KnowledgeBase, make_document: Callable[..., Document]) -> None:
    base.add_document(make_document("a.md", {"One": "alpha"}))
    base.remove("a.md")
    assert [(item.version, item.ended) for item in base.history("a.md")] == [(1, "removed")]
    base.add_document(make_document("a.md", {"One": "beta"}))
    base.add_document(make_document("a.md", {"One": "gamma"}))
    assert [item.version for item in base.history("a.md")] == [3, 2, 1]
    assert [(change.before, change.after) for change in base.diff("a.md", 1, 3)] == [("alpha", "gamma")]
    assert base.check().problems == ()


def test_old_versions_keep_their_hash_and_lose_their_text(base: KnowledgeBase, make_document: Callable[..., Document]) -> None:
    for number in range(KEPT_TEXTS + 3):
        base.add_document(make_document("a.md", {"One": f"number {number}"}))
    versions = base.history("a.md")
    assert len(versions) == KEPT_TEXTS + 3
    assert [item.version for item in versions if not item.has_text] == [2, 1]
    with pytest.raises(UnknownNameError, match="no text of version 1"):
        base.diff("a.md", 1, 5)


def test_unknown_document_has_no_history(base: KnowledgeBase) -> None:
    with pytest.raises(UnknownNameError, match="now or before"):
        base.history("nothing.md")
