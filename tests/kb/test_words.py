from __future__ import annotations

import pytest

from kb.words import identifier_parts, looks_like_name, query_terms, split_identifier


@pytest.mark.parametrize(
    ("token", "parts"),
    [
        ("make_block_ptr", ["make", "block", "ptr"]),
        ("MapIdTransform", ["map", "id", "transform"]),
        ("cudaErrorNoDevice", ["cuda", "error", "no", "device"]),
        ("sm_90", ["sm", "90"]),
        ("warp", []),
    ],
)
def test_identifiers_are_split_at_underscores_and_capitals(token: str, parts: list[str]) -> None:
    assert split_identifier(token) == parts


def test_query_keeps_identifiers_whole_and_adds_their_parts() -> None:
    assert query_terms("what does tl.make_block_ptr do") == ["tl", "make_block_ptr", "block", "ptr"]


def test_query_of_stop_words_alone_keeps_them() -> None:
    assert query_terms("what is it") == ["what", "is", "it"]


def test_index_gets_the_parts_of_identifiers_only() -> None:
    assert identifier_parts("call num_warps here") == "num warps"


@pytest.mark.parametrize(
    ("word", "expected"), [("sm_90", True), ("H100", True), ("CuTe", True), ("shared", False), ("Shared", False), ("2048", False)]
)
def test_names_are_told_from_prose(word: str, expected: bool) -> None:
    assert looks_like_name(word) is expected
