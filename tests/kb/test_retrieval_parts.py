from __future__ import annotations

from collections.abc import Callable

import pytest

from kb.abstention import is_statement, missing_quantity
from kb.retrieval import DEFAULT, LEXICAL_SCALE
from kb.store import KnowledgeBase
from kb.target_words import STATED
from kb.types import Document, Filters

MakeDocument = Callable[..., Document]


@pytest.mark.parametrize("mode", ["hybrid", "leaves", "flat", "dense", "lexical"])
def test_parts_add_up_to_the_score_in_every_mode(filled: KnowledgeBase, mode: str) -> None:
    for query in ("shared memory per block", "LDS on AMD"):
        for hit in filled.query(query, 10, explain=True, mode=mode).hits:
            assert sum(hit.explain.values()) == pytest.approx(hit.score, abs=1e-9)


def test_words_weigh_by_how_much_of_the_query_they_cover(base: KnowledgeBase, make_document: MakeDocument) -> None:
    for number in range(8):
        base.add_document(
            make_document(f"other{number}.md", {f"Part {number}": f"Soup number {number} boils slowly; nothing else happens."})
        )
    base.add_document(make_document("fault.md", {"Fault": "An illegal memory access was encountered in the allocator."}))
    quoted = base.query("illegal memory access encountered allocator", 1, explain=True, infer_target=False).hits[0]
    brushed = base.query("allocator boils whenever printers jam slowly somewhere", 9, explain=True, infer_target=False).hits
    most = DEFAULT.lexical_weight * LEXICAL_SCALE
    assert quoted.source.path == "fault.md"
    assert max(hit.explain["lexical"] for hit in brushed) < quoted.explain["lexical"] < most


def test_words_that_occur_nowhere_do_not_lower_what_the_others_say(base: KnowledgeBase, make_document: MakeDocument) -> None:
    base.add_document(make_document("one.md", {"Banks": "Shared memory has 32 banks."}))
    base.add_document(make_document("two.md", {"Warps": "A warp has 32 lanes."}))
    base.add_document(make_document("three.md", {"Grids": "A grid has many blocks."}))
    alone = base.query("banks", 1, explain=True, mode="lexical").hits[0]
    among = base.query("banks zorkchip frobnicates", 1, explain=True, mode="lexical").hits[0]
    assert alone.explain["lexical"] > 0
    assert among.explain["lexical"] == alone.explain["lexical"]


def test_second_chunk_of_a_section_makes_room_for_another_section(base: KnowledgeBase, make_document: MakeDocument) -> None:
    long = "\n\n".join(f"Bank conflicts of shared memory, case {number}: " + "stride and padding " * 60 for number in range(4))
    base.add_document(make_document("one.md", {"Conflicts": long}))
    base.add_document(make_document("two.md", {"Padding": "Padding avoids bank conflicts of shared memory."}))
    hits = base.query("bank conflicts shared memory padding stride", 4, explain=True).hits
    assert "two.md" in {hit.source.path for hit in hits[:2]}
    repeats = [hit.explain["repeat"] for hit in hits if "repeat" in hit.explain]
    assert repeats and all(value < 0 for value in repeats)


def test_levels_never_stand_between_a_query_and_a_leaf(base: KnowledgeBase, make_document: MakeDocument) -> None:
    sections = {f"Cooking {number}": f"Boil the soup number {number} slowly with salt." for number in range(12)}
    base.add_document(make_document("cooking.md", {**sections, "Odd one": "The tl.make_block_ptr call needs strides."}))
    for number in range(6):
        base.add_document(
            make_document(f"pointers{number}.md", {"Pointers": f"Pointers of kernels, part {number}, and strides of blocks."})
        )
    assert base.query("tl.make_block_ptr", 1).hits[0].section_path[-1] == "Odd one"


def test_documents_that_name_another_target_stand_behind(base: KnowledgeBase, make_document: MakeDocument) -> None:
    for number in range(4):
        base.add_document(
            make_document(f"nvidia/warps{number}.md", {"CUDA warps": f"A warp shuffle exchanges registers of lanes, way {number}."})
        )
    base.add_document(make_document("rocm/waves.md", {"Wavefronts": "A HIP wavefront exchanges registers between its lanes."}))
    hits = base.query("how does a warp shuffle exchange registers of lanes in ROCm HIP?", 5, explain=True).hits
    assert hits[0].source.path == "rocm/waves.md"
    assert all(hit.explain["target"] < 0 for hit in hits[1:])
    assert "target" not in base.query("how are registers of lanes exchanged?", 5, explain=True).hits[0].explain


def test_documents_that_state_the_target_gain_over_those_for_all(base: KnowledgeBase, make_document: MakeDocument) -> None:
    body = "Deepen the software pipeline until the local storage is full."
    base.add_document(make_document("all/pipelines.md", {"Pipelines": f"{body} The rule holds."}))
    base.add_document(make_document("mtia/pipelines.md", {"Pipelines": f"{body} Each stage takes a buffer."}, ("mtia",)))
    base.add_document(make_document("chip/pipelines.md", {"Pipelines": f"{body} Buffers are few here."}, ("mtia:2i",)))
    hits = base.query("how deep should the software pipeline be", 3, Filters(target="mtia:2i"), explain=True).hits
    assert {hit.source.path for hit in hits if "target" not in hit.explain} == {"all/pipelines.md"}
    assert all(hit.explain.get("target", STATED) >= STATED for hit in hits)
    base.add_document(make_document("both/pipelines.md", {"Pipelines": f"{body} Two vendors have it."}, ("mtia", "amd")))
    hits = base.query("how deep should the software pipeline be", 4, Filters(target="mtia:2i"), explain=True).hits
    assert {hit.source.path for hit in hits if "target" not in hit.explain} == {"all/pipelines.md", "both/pipelines.md"}
    everywhere = base.query("how deep should the software pipeline be", 3, explain=True, infer_target=False).hits
    assert all("target" not in hit.explain for hit in everywhere)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("CCL19 is absent within dLNs.", True),
        ("VPS9a does not localise PIN1", True),
        ("Is CCL19 absent within dLNs?", False),
        ("How do I export a model to Trainium", False),
        ("NVLink bandwidth of an H100 board", False),
    ],
)
def test_statements_are_told_from_questions(query: str, expected: bool) -> None:
    assert is_statement(query) is expected


def test_statement_is_not_refused_for_one_unknown_name_but_a_question_is(filled: KnowledgeBase) -> None:
    assert not filled.query("Shared memory of a Zorkchip has 32 banks and each of its banks has 4 bytes.").abstained
    assert filled.query("How many banks does the shared memory of a Zorkchip have?").abstained


def test_price_is_refused_unless_a_passage_states_one(base: KnowledgeBase, make_document: MakeDocument) -> None:
    base.add_document(make_document("card.md", {"Card": "The H100 card has 80 GB of memory and a board power of 700 W."}))
    result = base.query("What is the price of an H100 card?", infer_target=False)
    assert result.abstained and "price" in result.reason
    assert missing_quantity("What is the thermal design power of an H100 card?", result.hits) == ""
    base.add_document(make_document("shop.md", {"Card": "The H100 card costs $25,000."}))
    assert not base.query("What is the price of an H100 card?", infer_target=False).abstained


def test_quantity_asked_for_is_looked_for_in_the_hits(filled: KnowledgeBase) -> None:
    hits = filled.query("shared memory").hits
    assert missing_quantity("How many picojoules does a load cost?", hits) == "an energy"
    assert missing_quantity("How many banks are there?", hits) == ""


def test_filters_hold_together(base: KnowledgeBase, make_document: MakeDocument) -> None:
    from kb.types import Kind, Trust

    base.add_document(
        make_document("new/a.md", {"Tiles": "Tiles of shared memory."}, ("nvidia",), Kind.GUIDE, Trust.MEASURED, {"triton": ">=3.6"})
    )
    base.add_document(
        make_document(
            "old/a.md", {"Tiles": "Tiles of shared memory, formerly."}, ("nvidia",), Kind.GUIDE, Trust.DERIVED, {"triton": "<3.6"}
        )
    )
    base.add_document(make_document("old/b.md", {"Tiles": "Tiles of shared memory on a chip."}, ("amd",), Kind.HARDWARE))

    def found(**filters: object) -> set[str]:
        return {hit.source.path for hit in base.query("tiles of shared memory", 10, Filters(**filters), infer_target=False).hits}  # type: ignore[arg-type]

    assert found(valid_for={"triton": "3.6"}) == {"new/a.md", "old/b.md"}
    assert found(valid_for={"triton": "3.5"}) == {"old/a.md", "old/b.md"}
    assert found(kinds=(Kind.HARDWARE,)) == {"old/b.md"}
    assert found(source="old/") == {"old/a.md", "old/b.md"}
    assert found(trust=(Trust.MEASURED,)) == {"new/a.md"}
    assert found(target="amd", source="old/", valid_for={"triton": "3.6"}) == {"old/b.md"}
