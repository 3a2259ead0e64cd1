from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from kb.deep.advisor import PromptedAdvisor
from kb.deep.claims import is_supported
from kb.deep.concepts import Concept, Thesaurus, load_concepts
from kb.deep.decompose import phrases, sides, subject_words
from kb.deep_search import DeepSearch, DeepSearchOptions, decompose, quote
from kb.embedders.registry import make_embedder
from kb.store import KnowledgeBase
from kb.types import Document, Filters


def test_questions_are_taken_apart_at_question_words() -> None:
    assert decompose("What limits occupancy, and how do I avoid bank conflicts?") == [
        "What limits occupancy",
        "how do I avoid bank conflicts",
    ]
    assert decompose("matrix and vector units") == ["matrix and vector units"]


def test_every_claim_is_quoted_from_the_chunk_it_cites(filled: KnowledgeBase) -> None:
    brief = DeepSearch(filled).ask(
        "How many banks does shared memory have and what is a warp's number of lanes?", Filters(target="cuda:sm_90")
    )
    assert {"Shared memory has 32 banks of 4 bytes.", "A warp has 32 lanes."} <= {finding.claim for finding in brief.findings}
    for finding in brief.findings:
        assert finding.claim in filled.get_chunk(finding.hit.chunk_id).text
        assert "amd" not in finding.hit.targets


def test_what_is_not_in_the_base_is_said(filled: KnowledgeBase) -> None:
    brief = DeepSearch(filled).ask("How many banks does shared memory have? What clock has the Frobnicator7?")
    assert len(brief.not_found) == 1
    assert "Frobnicator7" in brief.not_found[0]
    assert brief.findings


def test_number_of_queries_is_bounded(filled: KnowledgeBase) -> None:
    brief = DeepSearch(filled, DeepSearchOptions(max_queries=3)).ask("banks? warps? fusion of pointwise work? traffic of memory?")
    assert len(brief.queries) <= 3


def test_links_are_followed_to_other_documents(base: KnowledgeBase, make_document: Callable[..., Document]) -> None:
    base.add_document(make_document("docs/index.md", {"Topics": "For swizzle patterns read [the layout page](deep/layout.md)."}))
    base.add_document(make_document("docs/deep/layout.md", {"Method": "Permute columns by the row index."}))
    for number in range(12):
        base.add_document(make_document(f"docs/other{number}.md", {"Patterns": f"Other swizzle patterns, number {number}."}))
    brief = DeepSearch(base, DeepSearchOptions(num_findings=30)).ask("swizzle patterns read layout page")
    assert any(query.endswith("[in docs/deep/layout.md]") for query in brief.queries)
    assert any(finding.hit.source.path == "docs/deep/layout.md" for finding in brief.findings)


def test_empty_question_is_refused(filled: KnowledgeBase) -> None:
    with pytest.raises(ValueError, match="empty"):
        DeepSearch(filled).ask(" ? ")


def test_quote_keeps_the_sentences_that_answer() -> None:
    passage = "Warps are groups. Shared memory has 32 banks. Something else entirely follows here."
    assert quote(passage, "how many banks has shared memory") == "Shared memory has 32 banks."


def test_brief_reads_as_text_and_json(filled: KnowledgeBase) -> None:
    brief = DeepSearch(filled).ask("How many lanes has a warp?")
    assert brief.findings[0].hit.chunk_id in brief.to_text()
    assert brief.to_json()["findings"][0]["source"]["path"] == "nvidia.md"


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("difference between LDS and L1 cache", ["LDS", "L1 cache"]),
        ("Compare the tile scheduler with stream-K", ["Compare the tile scheduler", "stream-K"]),
        ("how many banks has shared memory", []),
    ],
)
def test_comparisons_have_two_sides(question: str, expected: list[str]) -> None:
    found = sides(question)
    assert [side.removeprefix("Compare ").strip() for side in found] == [side.removeprefix("Compare ").strip() for side in expected]


@pytest.mark.parametrize(
    ("question", "second"),
    [
        ("Which mode is thread-safe, and how is memory handed over at execution?", "how is memory handed over at execution"),
        ("What does rowwise scaling bring in prefill, and what in training?", "what in training"),
        ("Which options keep the aperture small, and below which address should BAR0 be set?", "below which address should BAR0 be set"),
    ],
)
def test_clauses_with_a_question_word_are_parts(question: str, second: str) -> None:
    parts = decompose(question)
    assert second in parts[-1]


def test_every_concept_has_names_and_descriptions() -> None:
    concepts = load_concepts()
    assert len(concepts) > 200
    for concept in concepts:
        assert concept.terms and concept.lay
        assert all(text == text.strip() and text for text in (*concept.terms, *concept.lay))
    assert len({concept.terms for concept in concepts}) == len(concepts)


def test_a_concept_is_recognised_by_name_and_by_description() -> None:
    thesaurus = Thesaurus(
        make_embedder("hashing"),
        concepts=[Concept(("warp", "wavefront"), ("threads that march together",)), Concept(("cache",), ("recently used data",))],
    )
    (named,) = [meant for meant in thesaurus.meant("Which wavefronts stall?", 3) if meant.is_named]
    assert named.concept.terms[0] == "warp"
    described = thesaurus.meant("how many threads that march together are there", 3)
    assert described[0].concept.terms[0] == "warp"
    assert not described[0].is_named


def test_vectors_of_descriptions_are_kept_and_a_broken_file_is_made_again(tmp_path: Path) -> None:
    embedder, concepts = make_embedder("hashing"), [Concept(("cache",), ("recently used data",))]
    Thesaurus(embedder, tmp_path, concepts).meant("used data", 2)
    (stored,) = tmp_path.glob("concepts-*.npy")
    stored.write_bytes(b"not numpy")
    assert Thesaurus(embedder, tmp_path, concepts).meant("recently used data", 2)[0].concept.terms == ("cache",)


def test_a_description_in_everyday_words_leads_to_the_documents_term(base: KnowledgeBase, make_document: Callable[..., Document]) -> None:
    base.add_document(make_document("a.md", {"Wavefront width": "A wavefront is 64 wide."}))
    for number in range(12):
        base.add_document(make_document(f"other{number}.md", {"Marching": f"Bands march, number {number}."}))
    thesaurus = Thesaurus(base.embedder(), concepts=[Concept(("wavefront",), ("lanes that march in step",))])
    brief = DeepSearch(base, thesaurus=thesaurus).ask("lanes that march in step")
    assert "concept" in next(section.explain for section in brief.sections if section.hit.source.path == "a.md")


def test_explained_parts_add_up_and_sections_are_distinct(filled: KnowledgeBase) -> None:
    brief = DeepSearch(filled).ask("How many banks does shared memory have?")
    assert brief.calls == len(brief.queries)
    assert [section.rank for section in brief.sections] == list(range(1, len(brief.sections) + 1))
    assert len({(section.hit.source.path, section.hit.section_path) for section in brief.sections}) == len(brief.sections)
    for section in brief.sections:
        assert sum(section.explain.values()) == pytest.approx(section.score)


def test_same_question_gives_the_same_brief(filled: KnowledgeBase) -> None:
    question = "How many banks does shared memory have and how many lanes has a warp?"
    assert DeepSearch(filled).ask(question) == DeepSearch(filled).ask(question)


def test_a_model_formulates_and_selects_but_writes_no_claim(filled: KnowledgeBase) -> None:
    prompts: list[str] = []

    def complete(prompt: str) -> str:
        prompts.append(prompt)
        return "1. lanes of a warp\n2. pointwise fusion" if len(prompts) == 1 else "2, 99, 1"

    plain = DeepSearch(filled).ask("How many banks does shared memory have?")
    brief = DeepSearch(filled, advisor=PromptedAdvisor(complete)).ask("How many banks does shared memory have?")
    assert {"lanes of a warp", "pointwise fusion"} <= set(brief.queries) - set(plain.queries)
    assert "[2]" in prompts[1]
    assert all(is_supported(finding.claim, filled.get_chunk(finding.hit.chunk_id).text) for finding in brief.findings)


def test_a_silent_model_leaves_the_rules_ranking(filled: KnowledgeBase) -> None:
    question = "How many banks does shared memory have?"
    advised, plain = DeepSearch(filled, advisor=PromptedAdvisor(lambda _: "")).ask(question), DeepSearch(filled).ask(question)
    assert (advised.findings, advised.sections, advised.queries) == (plain.findings, plain.sections, plain.queries)


def test_a_model_that_finds_nothing_helpful_formulates_once_more_knowing_what_was_found(filled: KnowledgeBase) -> None:
    prompts: list[str] = []

    def complete(prompt: str) -> str:
        prompts.append(prompt)
        return ("number of banks", "0", "lanes of a warp", "1")[len(prompts) - 1]

    brief = DeepSearch(filled, advisor=PromptedAdvisor(complete)).ask("How many banks does shared memory have?")
    assert "lanes of a warp" in brief.queries
    assert " > ".join(brief.sections[0].hit.section_path) in prompts[2]
    assert brief.model_calls == len(prompts) == 4


def test_what_came_first_for_a_formulation_is_shown_to_the_model(base: KnowledgeBase, make_document: Callable[..., Document]) -> None:
    for number in range(30):
        base.add_document(make_document(f"docs/{number}.md", {f"Cards {number}": f"Hide a graphics card from a program, way {number}."}))
    base.add_document(make_document("docs/far.md", {"Visibility": "ROCR_VISIBLE_DEVICES selects agents."}))
    shown: list[str] = []

    def complete(prompt: str) -> str:
        shown.append(prompt)
        return "ROCR_VISIBLE_DEVICES agents" if len(shown) == 1 else "20"

    brief = DeepSearch(base, DeepSearchOptions(num_sections=20), PromptedAdvisor(complete)).ask("hide a graphics card from a program")
    assert "Visibility" in shown[1]
    assert brief.sections[0].hit.source.path == "docs/far.md"


def test_a_claim_that_does_not_stand_in_the_passage_is_not_supported() -> None:
    passage = "Shared memory has 32 banks.\nA warp has 32 lanes."
    assert is_supported("Shared memory has 32 banks. A warp has 32 lanes.", passage)
    assert not is_supported("Shared memory has 64 banks.", passage)
    assert not is_supported(" ", passage)


def test_phrases_hold_the_runs_of_content_words() -> None:
    assert "neighbouring addresses" in phrases("how do we go to the neighbouring addresses at once")


def test_a_named_collection_and_the_document_of_the_other_part_are_looked_into(
    base: KnowledgeBase, make_document: Callable[..., Document]
) -> None:
    base.add_document(
        make_document(
            "acme+fuser/fusion.md", {"Classes": "Fuser sorts operators into classes.", "Phases": "A late phase takes activations."}
        )
    )
    for number in range(4):
        base.add_document(
            make_document(f"other+lib/page{number}.md", {"Phases": f"Phase {number} of an activation, an operator and a class."})
        )
    brief = DeepSearch(base).ask("How does Fuser sort operators, and in which phase are activations taken?")
    assert len(brief.parts) == 2
    assert f"{brief.parts[1]} [in acme+fuser/]" in brief.queries
    assert f"{brief.parts[1]} [in acme+fuser/fusion.md]" in brief.queries
    assert ("acme+fuser/fusion.md", "Phases") in {(section.hit.source.path, section.hit.section_path[-1]) for section in brief.sections[:4]}


def test_collections_are_named_by_capitals_or_digits_only() -> None:
    assert subject_words("How does TVM classify operators on an mi300 card") == ["tvm", "mi300", "mi", "300"]
