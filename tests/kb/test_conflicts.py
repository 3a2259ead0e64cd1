"""Numbers that documents state, and where two of them cannot both be right."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kb.statements import Statement, statements_in
from kb.store import KnowledgeBase
from kb.types import Chunk, Document, Filters, Kind, Trust
from kb.words import stem


def stated(text: str, heading: tuple[str, ...] = ("Manual",), context: str = "", block: str = "text") -> tuple[Statement, ...]:
    return statements_in(Chunk("c", "d", heading, text, 1, 1 + text.count("\n"), "h", block, context))


def one(text: str, heading: tuple[str, ...] = ("Manual",)) -> Statement:
    (found,) = stated(text, heading)
    return found


@pytest.mark.parametrize(
    ("text", "subject", "unit"),
    [
        ("Shared memory per block is 227 KB.", "block memory shared", "bytes"),
        ("The L2 cache of the H100 has 50 MB.", "cache h100 l2", "bytes"),
        ("A warp scheduler has 16 slots.", "scheduler warp", "slot"),
        ("| Property | Value |\n|---|---|\n| Register file per SM | 256 KB |", "file register sm", "bytes"),
        ("| Chip | Peak bandwidth (TB/s) | Cores |\n|---|---|---|\n| Falcon X | 3.35 | none |", "bandwidth falcon max x", "bytes/s"),
    ],
)
def test_sentences_and_cells_with_one_number_are_read(text: str, subject: str, unit: str) -> None:
    found = one(text)
    assert (found.kind, found.subject) == (unit, " ".join(sorted(stem(word) for word in subject.split())))


@pytest.mark.parametrize(
    "text",
    [
        "It is 227 KB.",
        "This buffer has 16 banks of memory.",
        "If the kernel is small, shared memory per block is 48 KB.",
        "Shared memory per block is 16 to 48 KB.",
        "Shared memory per block is 48 KB or 96 KB.",
        "Shared memory per block is below 48 KB.",
        "Version 3.6 of the compiler is new.",
        "The kernel was 20 % faster than the baseline.",
        "For example, a tile of the matrix has 64 rows.",
        "Use 8 warps for large tiles.",
        "    shared_memory_limit = 48 KB",
        "```\nshared memory per block = 48 KB\n```",
        "| Tile | Shared memory |\n|---|---|\n| square tile | ≤ 48 KB |",
    ],
)
def test_what_is_vague_conditional_or_a_range_states_nothing(text: str) -> None:
    assert stated(text) == ()


def test_code_states_nothing() -> None:
    assert stated("Shared memory per block is 227 KB.", block="code") == ()


def test_header_of_a_cut_table_is_taken_from_the_context() -> None:
    (found,) = stated("| Falcon X | 50 MB |", context="| Chip | L2 cache |\n|---|---|", block="table")
    assert found.kind == "bytes"


@pytest.mark.parametrize(
    ("one_value", "other_value", "expected"),
    [
        ("227 KB", "228 KB", True),
        ("227 KB", "227 KiB", False),
        ("227 KB", "232448 bytes", False),
        ("227 KB", "64 KB", True),
        ("about 200 KB", "210 KB", False),
        ("3.35 TB/s", "3.4 TB/s", False),
        ("3.35 TB/s", "3 TB/s", False),
        ("3.35 TB/s", "2.0 TB/s", True),
        ("1,024 threads", "1024 threads", False),
        ("1,024 threads", "2048 threads", True),
        ("700 W", "0.7 kW", False),
        ("1.98 GHz", "1980 MHz", False),
    ],
)
def test_values_conflict_only_if_no_reading_of_both_is_equal(one_value: str, other_value: str, expected: bool) -> None:
    sentence = "The whole budget of the Falcon processor is {}."
    first, second = one(sentence.format(one_value)), one(sentence.format(other_value))
    assert first.contradicts(second) == second.contradicts(first)
    assert first.contradicts(second) == expected, (first, second)


def add(base: KnowledgeBase, make_document: Callable[..., Document], source: str, text: str, **options: object) -> None:
    base.add_document(make_document(source, {"Limits": text}, **options))


def test_two_documents_with_different_numbers_are_both_shown_with_their_trust(
    base: KnowledgeBase, make_document: Callable[..., Document]
) -> None:
    add(base, make_document, "a.md", "Shared memory per thread block is 227 KB.", targets=("cuda:sm_90",))
    add(base, make_document, "b.md", "Shared memory per thread block is 164 KB.", targets=("cuda:sm_90",), trust=Trust.MEASURED)
    add(base, make_document, "c.md", "Shared memory per thread block is 227 KB.", targets=("cuda:sm_90",))
    (conflict,) = base.conflicts()
    assert [(claim.source.path, claim.trust) for claim in conflict.claims] == [
        ("b.md", Trust.MEASURED),
        ("a.md", Trust.DOCUMENTED),
        ("c.md", Trust.DOCUMENTED),
    ]
    assert conflict.targets == ("cuda:sm_90",)
    assert base.query("shared memory per thread block", filters=Filters(target="cuda:sm_90")).conflicts == (conflict,)
    base.remove("b.md")
    assert base.conflicts() == ()


def test_other_targets_kinds_and_subjects_do_not_conflict(base: KnowledgeBase, make_document: Callable[..., Document]) -> None:
    add(base, make_document, "a.md", "Shared memory per thread block is 227 KB.", targets=("cuda:sm_90",))
    add(base, make_document, "b.md", "Shared memory per thread block is 163 KB.", targets=("cuda:sm_80",))
    add(base, make_document, "c.md", "Shared memory per cluster is 64 KB.", targets=("cuda:sm_90",))
    add(base, make_document, "d.md", "Shared memory per thread block is 99 KB.", targets=("cuda:sm_90",), kind=Kind.PROFILE)
    assert base.conflicts() == ()


def test_chip_named_in_the_words_decides_over_the_documents_targets(base: KnowledgeBase, make_document: Callable[..., Document]) -> None:
    add(base, make_document, "a.md", "The L2 cache of H100 is 50 MB.", targets=("generic",))
    add(base, make_document, "b.md", "The L2 cache of H100 is 40 MB.", targets=("nvidia",))
    (conflict,) = base.conflicts()
    assert conflict.targets == ("cuda:sm_90",)


def test_document_that_gives_several_numbers_for_one_subject_is_not_contradicted(
    base: KnowledgeBase, make_document: Callable[..., Document]
) -> None:
    add(base, make_document, "a.md", "The tile buffer per core is 64 KB.\n\nThe tile buffer per core is 128 KB.")
    add(base, make_document, "b.md", "The tile buffer per core is 96 KB.")
    assert base.conflicts() == ()


def test_retired_document_is_not_in_conflict(base: KnowledgeBase, make_document: Callable[..., Document]) -> None:
    add(base, make_document, "a.md", "The tile buffer per core is 64 KB.")
    add(base, make_document, "b.md", "The tile buffer per core is 96 KB.")
    assert len(base.conflicts()) == 1
    base.retire("a.md")
    assert base.conflicts() == ()
