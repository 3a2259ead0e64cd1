"""Retired and superseded documents; lessons that gain and lose evidence."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable

import pytest

from kb.errors import UnknownNameError
from kb.retrieval import MODES
from kb.search import Searcher
from kb.store import KnowledgeBase
from kb.types import Confirmation, Document, Filters, Lesson

DAY = 86_400.0
LESSON = Lesson("Fusing the bias helps.", {"anchor": "aten.mm.default"}, 1.2, 1.1, 1.3, ("first",), "cpu", "p1", {"triton": "3.6.0"})


def found(base: KnowledgeBase, include_retired: bool = False) -> set[str]:
    sets = []
    for mode in ("dense", "lexical", "hybrid"):
        hits = base.query("alpha", 50, Filters(include_retired=include_retired), mode=mode).hits
        sets.append({hit.source.path for hit in hits})
    approximate = Searcher(base.catalogue, base.embedder, base.index, scan_limit=0)
    hits = approximate.query("alpha", 50, Filters(include_retired=include_retired), False, MODES["dense"]).hits
    assert sets[0] == sets[1] == sets[2] == {hit.source.path for hit in hits}
    return sets[0]


def page(make_document: Callable[..., Document], source: str, **front: object) -> Document:
    document = make_document(source, {"One": f"alpha as {source} tells it"})
    return dataclasses.replace(document, front_matter=front, content_hash=document.content_hash[:-8] + f"{abs(hash(str(front))):08x}"[:8])


def test_retired_document_is_found_in_no_leg_unless_asked_for(base: KnowledgeBase, make_document: Callable[..., Document]) -> None:
    for source in ("a.md", "b.md"):
        base.add_document(page(make_document, source))
    base.retire("a.md", reason="wrong since 2025")
    assert found(base) == {"b.md"}
    assert found(base, include_retired=True) == {"a.md", "b.md"}
    assert base.statuses()["a.md"]["reason"] == "wrong since 2025"
    assert base.check().problems == ()
    assert base.reinstate("a.md")
    assert not base.reinstate("a.md")
    assert found(base) == {"a.md", "b.md"}


def test_retirement_by_command_outlives_an_edit(base: KnowledgeBase, make_document: Callable[..., Document]) -> None:
    base.add_document(page(make_document, "a.md"))
    base.retire("a.md")
    base.add_document(page(make_document, "a.md", edition=2))
    assert found(base) == set()


def test_front_matter_retires_and_reinstates(base: KnowledgeBase, make_document: Callable[..., Document]) -> None:
    base.add_document(page(make_document, "a.md", status="retired"))
    assert found(base) == set()
    base.add_document(page(make_document, "a.md"))
    assert found(base) == {"a.md"}


@pytest.mark.parametrize("order", [("old.md", "new.md"), ("new.md", "old.md")])
def test_superseded_document_gives_way_while_its_successor_is_there(
    base: KnowledgeBase, make_document: Callable[..., Document], order: tuple[str, str]
) -> None:
    pages = {"old.md": page(make_document, "old.md"), "new.md": page(make_document, "new.md", supersedes=["old.md"])}
    for source in order:
        base.add_document(pages[source])
    assert found(base) == {"new.md"}
    assert base.statuses()["old.md"]["successor"] == "new.md"
    base.remove("new.md")
    assert found(base) == {"old.md"}


def test_unknown_names_are_refused(base: KnowledgeBase, make_document: Callable[..., Document]) -> None:
    base.add_document(page(make_document, "a.md"))
    for arguments in ({"source": "no.md"}, {"source": "a.md", "successor": "no.md"}, {"source": "lesson:no"}, {"source": "winner:no"}):
        with pytest.raises(UnknownNameError):
            base.retire(**arguments)
    with pytest.raises(ValueError, match="itself"):
        base.retire("a.md", successor="a.md")


def confirmation(number: int, problem: str, effect: float = 1.2, *, is_ablation: bool = False) -> Confirmation:
    return Confirmation(f"e{number}", problem, effect, effect * 0.95, effect * 1.05, is_ablation, {"triton": "3.6.0"})


def test_second_problem_promotes_a_lesson_and_the_same_problem_does_not(base: KnowledgeBase) -> None:
    key = base.add_lesson(LESSON)
    assert base.confirm_lesson(key, confirmation(1, "p1")).status == "provisional"
    lesson = base.confirm_lesson(key, confirmation(2, "p2"))
    assert lesson.status == "promoted"
    assert lesson.evidence == ("first", "e1", "e2")
    assert 1.15 < lesson.effect_low < lesson.effect < lesson.effect_high < 1.25
    (match,) = base.lessons("cpu")
    assert (match.lesson_id, match.lesson) == (key, lesson)
    assert len(base.lesson_evidence(key)) == 3
    assert base.get_document(f"lesson:{key}").trust == "measured"


def test_one_ablation_promotes_a_lesson(base: KnowledgeBase) -> None:
    assert base.confirm_lesson(base.add_lesson(LESSON), confirmation(1, "p1", is_ablation=True)).status == "promoted"


def test_same_evaluation_counts_once(base: KnowledgeBase) -> None:
    key = base.add_lesson(LESSON)
    for _ in range(3):
        base.confirm_lesson(key, confirmation(1, "p1"))
    assert len(base.lesson_evidence(key)) == 2


def test_refuted_lesson_retires_and_is_not_found(base: KnowledgeBase) -> None:
    key = base.add_lesson(LESSON)
    assert base.confirm_lesson(key, confirmation(1, "p2", 0.8)).status == "provisional"
    assert base.confirm_lesson(key, confirmation(2, "p3", 0.8)).status == "retired"
    assert base.lessons("cpu") == ()
    assert not base.query("fusing the bias").hits
    assert base.lessons("cpu", status=("retired",))[0].lesson_id == key


def test_old_evidence_and_other_versions_weigh_less(base: KnowledgeBase) -> None:
    base.add_lesson(LESSON)
    base.add_lesson(dataclasses.replace(LESSON, claim="Tiling helps.", versions={"triton": "3.7.1"}))
    now = time.time()
    strengths = {match.lesson.claim: match.strength for match in base.lessons("cpu", versions={"triton": "3.7.0"}, now=now + 180 * DAY)}
    assert strengths["Tiling helps."] == pytest.approx(0.5, abs=0.01)
    assert strengths[LESSON.claim] == pytest.approx(0.25, abs=0.01)
    assert base.lessons("cpu", versions={"triton": "3.7.0"}, now=now)[0].lesson.claim == "Tiling helps."


def test_stale_lessons_retire_and_promoted_ones_stay(base: KnowledgeBase) -> None:
    stale = base.add_lesson(LESSON)
    kept = base.add_lesson(dataclasses.replace(LESSON, claim="Tiling helps."))
    base.confirm_lesson(kept, confirmation(1, "p1", is_ablation=True))
    assert base.retire_stale_lessons(time.time() + 500 * DAY) == ()
    assert base.retire_stale_lessons(time.time() + 560 * DAY) == (stale,)
    assert [match.lesson_id for match in base.lessons("cpu")] == [kept]


def test_measurement_outside_its_own_interval_is_refused() -> None:
    with pytest.raises(ValueError, match="interval"):
        Confirmation("e", "p", 2.0, 0.9, 1.1)
