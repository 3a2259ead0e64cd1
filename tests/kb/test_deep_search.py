from __future__ import annotations

from collections.abc import Callable

import pytest

from kb.deep_search import DeepSearch, DeepSearchOptions, decompose, quote
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
