"""The knowledge documents are well-formed: what `kb lint` checks, closed sets of this repository, indices, and the retrieval suite's gold."""

from __future__ import annotations

import functools
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from kb_ingest.lint.run import lint

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
FOLDERS = ("constraints", "guidance", "triton", "nvidia", "amd", "mtia", "cpu")
DOCUMENTS = sorted(path for folder in FOLDERS for path in (DOCS / folder).rglob("*.md"))
QUESTIONS = ROOT / "evaluation" / "suites" / "retrieval" / "questions.jsonl"
KINDS = {"guide", "constraint", "hardware"}
TRUSTS = {"measured", "documented", "derived", "unverified"}
TARGET = re.compile(r"generic|nvidia|amd|mtia|cpu|cuda:sm_\d+a?|rocm:gfx\w+|mtia:\w+")
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)
INLINE_CODE = re.compile(r"(`+)(?!`).*?(?<!`)\1(?!`)")
TYPES = {"fact", "paraphrase", "symptom", "error", "profile", "code", "wrong_target", "multi_hop", "unanswerable"}
COUNTS = {"nvidia": 15, "amd": 15, "mtia": 15, "cpu": 10, "triton+guidance": 15}


@functools.cache
def front_matter(path: Path) -> dict[str, Any]:  # Any: YAML as written
    text = path.read_text()
    assert text.startswith("---\n"), f"{path}: no front matter"
    loaded = yaml.load(text[4 : text.index("\n---", 4)], Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    assert isinstance(loaded, dict)
    return loaded


@functools.cache
def headings(path: Path) -> tuple[str, ...]:
    """Titles of all sections in order, code blocks excluded."""
    text = FENCE.sub("", path.read_text())
    return tuple(match.strip() for match in re.findall(r"^#{1,6} +(.+?) *#*$", text, re.MULTILINE))


def links(path: Path) -> list[str]:
    """Relative links of a document: those of its text and its `see_also`."""
    text = INLINE_CODE.sub("", FENCE.sub("", path.read_text()))
    found = [link for link in LINK.findall(text) if "://" not in link]
    return found + [str(link) for link in front_matter(path).get("see_also", [])]


def test_kb_lint_finds_nothing() -> None:
    assert [finding.to_text(DOCS) for finding in lint(DOCS).findings] == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: str(p.relative_to(DOCS)))
def test_front_matter_is_valid(path: Path) -> None:
    matter = front_matter(path)
    assert isinstance(matter.get("title"), str) and matter["title"]
    assert matter.get("kind") in KINDS
    assert matter.get("trust") in TRUSTS
    assert matter.get("targets") and all(TARGET.fullmatch(target) for target in matter["targets"])
    assert matter.get("sources") or matter.get("limits"), "a document names its sources"
    assert all(isinstance(source, str) for source in matter.get("sources", []))
    assert isinstance(matter.get("valid_for", {}), dict)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: str(p.relative_to(DOCS)))
def test_headings_of_a_document_are_unique_and_start_with_one_title(path: Path) -> None:
    titles = headings(path)
    assert titles, "no heading"
    assert [title for title, count in Counter(titles).items() if count > 1] == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: str(p.relative_to(DOCS)))
def test_code_blocks_are_closed(path: Path) -> None:
    assert len(re.findall(r"^```", path.read_text(), re.MULTILINE)) % 2 == 0


def test_every_folder_with_documents_has_an_index_that_names_each() -> None:
    for folder in {path.parent for path in DOCUMENTS}:
        index = folder / "index.md"
        assert index.is_file(), f"{folder} has no index.md"
        linked = {(folder / link.partition("#")[0]).resolve() for link in links(index)}
        members = {path.resolve() for path in folder.glob("*.md")} - {index.resolve()}
        assert members - linked == set(), f"{index} does not link {sorted(p.name for p in members - linked)}"


def test_there_are_enough_documents_per_family() -> None:
    counted = Counter(path.relative_to(DOCS).parts[0] for path in DOCUMENTS if path.name != "index.md")
    counted["triton+guidance"] = counted["triton"] + counted["guidance"]
    assert {family: counted[family] for family, least in COUNTS.items() if counted[family] < least} == {}
    assert len(DOCUMENTS) >= 110


def questions() -> list[dict[str, Any]]:  # Any: JSON
    return [json.loads(line) for line in QUESTIONS.read_text().splitlines() if line.strip()]


def test_questions_have_unique_ids_and_known_types() -> None:
    rows = questions()
    assert len(rows) >= 250
    assert len({row["id"] for row in rows}) == len({(row["text"], row["target"]) for row in rows}) == len(rows)
    assert {row["type"] for row in rows} == TYPES
    assert all(set(row) == {"id", "text", "type", "target", "gold", "split"} for row in rows)
    assert all(row["target"] is None or TARGET.fullmatch(row["target"]) for row in rows)


def test_a_third_of_the_questions_is_held_out() -> None:
    splits = Counter(row["split"] for row in questions())
    assert set(splits) == {"dev", "held_out"}
    assert 0.30 <= splits["held_out"] / sum(splits.values()) <= 0.37


def test_gold_documents_and_sections_of_questions_exist() -> None:
    missing = []
    for row in questions():
        assert bool(row["gold"]) == (row["type"] != "unanswerable"), row["id"]
        for gold in row["gold"]:
            path = ROOT / gold["document"]
            if not path.is_file() or gold["section"] not in headings(path):
                missing.append((row["id"], gold))
    assert missing == []


def test_gold_is_visible_to_the_target_of_its_question() -> None:
    families = {"cuda": "nvidia", "rocm": "amd", "mtia": "mtia", "cpu": "cpu"}
    for row in questions():
        if row["target"] is None:
            continue
        family = families.get(row["target"].partition(":")[0], row["target"])
        visible = {row["target"], family, "generic"}
        for gold in row["gold"]:
            targets = set(front_matter(ROOT / gold["document"])["targets"])
            assert targets & visible, f"{row['id']}: {gold['document']} holds for {sorted(targets)} only"
