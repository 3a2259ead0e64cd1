from __future__ import annotations

import pytest

from kb.shingles import Shingles
from kb.store import KnowledgeBase
from kb.types import Document, Kind, Section

TEXT = "Shared memory of a block is divided into banks so that the lanes of a warp can read at once unless two of them ask the same bank for words."


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (TEXT, True),
        (TEXT.replace("divided", "split"), True),
        (TEXT + " It has 32 banks.", False),
        (TEXT.replace("a block", "tl_block"), False),
        ("Registers are private to a lane. " * 6, False),
        (TEXT + " " + "Something entirely different follows here and goes on for long. " * 4, False),
    ],
)
def test_near_duplicates_agree_in_numbers_names_and_length(other: str, expected: bool) -> None:
    assert Shingles(TEXT).repeats(Shingles(other)) is expected
    assert Shingles(other).repeats(Shingles(TEXT)) is expected


def test_short_texts_are_too_little_evidence() -> None:
    assert not Shingles("Use warps.").repeats(Shingles("Use warps."))


def page(source: str, text: str) -> Document:
    return Document(source, source, Kind.GUIDE, Section(source, 0, text, 1, 1, text_line=1), source)


def test_twin_files_are_one_hit_with_both_sources_and_contradicting_ones_are_two(base: KnowledgeBase) -> None:
    for source, text in (
        ("a.md", TEXT + " It takes 23 cycles."),
        ("a.ipynb", TEXT.replace("divided", "split") + " It takes 23 cycles."),
        ("b.md", TEXT + " It takes 29 cycles."),
    ):
        base.add_document(page(source, text))
    hits = base.query("shared memory divided into banks cycles").hits
    assert len(hits) == 2
    assert sorted(sorted([hit.source.path, *(place.path for place in hit.also)]) for hit in hits) == [["a.ipynb", "a.md"], ["b.md"]]
