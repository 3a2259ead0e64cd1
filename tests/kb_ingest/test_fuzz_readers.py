from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.fuzz_readers import Child, Input, examine, is_finding, make_input, seeds_of
from kb_ingest.readers.registry import READERS

DOCS = Path(__file__).resolve().parents[2] / "docs"
PIECES = [
    "# One\n", "One\n===\n", "```\n", "| a | b |\n", "|---|---|\n", ".. list-table::\n\n", "   * - x\n     - y\n", "::\n\n", "    code\n", "<table><tr><td>", "</td></tr></table>",
    "<!--", "-->", "<pre>", "</pre>", "<h1>t</h1>", ":ref:`a <b>`", ".. _a:\n\n", "(a)=\n", "[x](y)", "def f(a):\n    return a\n", "template <class T> struct S {", "};\n", "\n", "words. ",
    "Ünïcödé 𝕏 ", "\u2028", "\x0c", "\t", "- item\n", "1. item\n",
]  # fmt: skip


@pytest.mark.parametrize("reader", sorted(set(READERS) - {"pdf"}))
@settings(max_examples=40, deadline=None)
@given(pieces=st.lists(st.tuples(st.sampled_from(PIECES), st.sampled_from((1, 1, 1, 50))), max_size=25))
def test_chunks_of_any_mixture_of_markup_stand_at_their_spans(reader: str, pieces: list[tuple[str, int]]) -> None:
    assert examine(reader, "".join(piece * times for piece, times in pieces).encode()) in ("document", "refused")


def test_inputs_depend_on_seed_and_number_alone() -> None:
    seeds = seeds_of([DOCS])
    assert make_input(seeds, 3, 7) == make_input(seeds_of([DOCS]), 3, 7)
    assert len({make_input(seeds, 3, number).data for number in range(20)}) > 10


def test_child_answers_and_survives_a_reader_that_does_not_exist() -> None:
    child = Child()
    try:
        good = child.ask(Input(0, "markdown", "", b"# Title\n\nWords.\n"))
        bad = child.ask(Input(1, "no such reader", "", b"x"))
        again = child.ask(Input(2, "rst", "", b"Title\n=====\n\nWords.\n"))
    finally:
        child.close()
    assert (good["outcome"], is_finding(good)) == ("document", False)
    assert (bad["outcome"], is_finding(bad)) == ("exception", True)
    assert again["outcome"] == "document"
