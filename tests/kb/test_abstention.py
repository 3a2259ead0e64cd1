from __future__ import annotations

from collections.abc import Callable

import pytest

from kb.abstention import compounds
from kb.store import KnowledgeBase
from kb.types import Document

MakeDocument = Callable[..., Document]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("How do I convert a Core ML model?", [("Core", "ML")]),
        ("How many instructions can an Apple M4 Max GPU core issue?", [("Apple", "M4", "Max")]),
        ("Does E4M3 on the MI300X, H100 or B200 differ?", []),
        ("Which tile fits 32 KB?", []),
    ],
)
def test_names_of_several_words_are_runs_of_capitals_and_numbers(query: str, expected: list[tuple[str, ...]]) -> None:
    assert compounds(query) == expected


def test_a_name_of_several_words_is_unknown_unless_a_chunk_has_them_all(base: KnowledgeBase, make_document: MakeDocument) -> None:
    base.add_document(make_document("a.md", {"Cores": "A core of the card runs windows of work. Table 11 lists Windows of work."}))
    base.add_document(make_document("b.md", {"ML": "An ML model has 11 layers."}))
    refused = base.query("How do I convert the layers of a Core ML model?")
    assert refused.abstained and "Core ML" in refused.reason
    base.add_document(make_document("c.md", {"Formats": "A Core ML model is converted by its layers."}))
    assert not base.query("How do I convert the layers of a Core ML model?").abstained


def test_a_property_that_no_document_speaks_of_is_refused(filled: KnowledgeBase) -> None:
    refused = filled.query("How is the LDS liquid-cooled?", infer_target=False)
    assert refused.abstained and "'liquid', 'cooled'" in refused.reason
    assert not filled.query("How large is the LDS?", infer_target=False).abstained


def test_cycles_are_refused_unless_a_passage_counts_them(base: KnowledgeBase, make_document: MakeDocument) -> None:
    base.add_document(make_document("unit.md", {"Unit": "The unit multiplies tiles in several cycles."}))
    assert "cycles" in base.query("How many cycles does the unit need for tiles?").reason
    base.add_document(make_document("times.md", {"Unit": "The unit multiplies tiles in 16 cycles."}))
    assert not base.query("How many cycles does the unit need for tiles?").abstained


def test_a_heading_may_begin_with_the_name_that_the_base_does_not_know(filled: KnowledgeBase) -> None:
    assert "Verilog" in filled.query("Verilog banks of shared memory").reason
    assert not filled.query("Which banks has shared memory?").abstained


def test_a_whole_question_that_nothing_covers_is_refused_though_its_words_occur(base: KnowledgeBase, make_document: MakeDocument) -> None:
    for number, word in enumerate(("recursive", "query", "ancestors", "sequel")):
        base.add_document(
            make_document(f"{number}.md", {f"Part {number}": f"The {word} part of the pipeline holds buffers and waves of tiles."})
        )
    refused = base.query("How do I write a sequel with recursive query over ancestors?")
    assert refused.abstained and refused.reason == "nothing found covers the question; 'write' occurs nowhere in the base"
    assert not base.query("Which part of the pipeline holds buffers and waves of tiles?").abstained


def test_a_macro_of_known_words_is_unknown_while_the_askers_own_function_is_not(filled: KnowledgeBase) -> None:
    assert "SHARED_MEMORY" in filled.query("Which SHARED_MEMORY is best for banks?", infer_target=False).reason
    assert not filled.query("Which banks does my shared_memory have?", infer_target=False).abstained


def test_a_pasted_identifier_is_not_refused_when_half_of_its_words_are_known(filled: KnowledgeBase) -> None:
    assert not filled.query("shared_zork on the banks of shared memory", infer_target=False).abstained
    assert "shared_zork" in filled.query("What does shared_zork do to the banks of shared memory?", infer_target=False).reason
