from __future__ import annotations

from collections.abc import Callable

import pytest

from kb.navigation import LINK_SHARE, link_share
from kb.store import KnowledgeBase
from kb.types import Document

MakeDocument = Callable[..., Document]


@pytest.mark.parametrize(
    ("passage", "leads_elsewhere"),
    [
        ("| bank conflicts | [padding](memory/padding.md) |\n| spills | [registers](memory/registers.md) |", True),
        (".. toctree::\n   :maxdepth: 2\n\n   install/linux\n   install/windows", True),
        ("See :doc:`the guide <guide/first>` and `the paper <https://example.org/paper.pdf>`_.", True),
        ('<a href="banks.html">Banks</a> <a href="warps.html">Warps</a>', True),
        ("Shared memory has 32 banks of 4 bytes; padding a row by one element avoids conflicts, see [padding](padding.md).", False),
        ("`tl.dot` wants `input_precision`; a/b is a ratio and 1/2 of it is wasted.", False),
        ("", False),
    ],
)
def test_passages_made_of_links_are_told_from_prose_with_a_link(passage: str, leads_elsewhere: bool) -> None:
    assert (link_share(passage) >= LINK_SHARE) is leads_elsewhere


def test_links_are_counted_once_whatever_form_they_have() -> None:
    assert 0.9 < link_share("[https://example.org/a](https://example.org/a) `https://example.org/b <https://example.org/b>`_") <= 1.0


def test_index_stands_behind_the_passage_it_leads_to(base: KnowledgeBase, make_document: MakeDocument) -> None:
    rows = "\n".join(f"| {what} | [{what}](memory/{what.replace(' ', '_')}.md) |" for what in ("bank conflicts", "row padding", "spills"))
    base.add_document(make_document("index.md", {"What to read when": rows}))
    base.add_document(
        make_document("memory/bank_conflicts.md", {"Conflicts": "The padding of a row by one element avoids bank conflicts."})
    )
    for number in range(6):
        base.add_document(make_document(f"soup{number}.md", {f"Soup {number}": f"Boil soup number {number} slowly with salt."}))
    hits = base.query("bank conflicts row padding", 8, explain=True).hits
    index, passage = (next(hit for hit in hits if hit.source.path == source) for source in ("index.md", "memory/bank_conflicts.md"))
    assert passage.rank < index.rank
    assert index.explain["links"] < 0
    assert "links" not in passage.explain
    assert all(sum(hit.explain.values()) == pytest.approx(hit.score, abs=1e-9) for hit in hits)
