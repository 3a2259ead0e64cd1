"""Random draws of numeric facts."""

from __future__ import annotations

from pathlib import Path

import pytest

from evaluation import fact_check

DOCUMENT = """---
title: Chip
limits:
  sram_bytes: {value: 4096, unit: bytes, source: manual, trust: documented}
---

# Chip

The bus has 512 GB/s. See section 3. It takes `4 ms` in code, and 7 cycles elsewhere.

| level | latency |
|---|---|
| L2 | 200 ns |
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "chip.md").write_text(DOCUMENT)
    (tmp_path / "guide").mkdir()
    (tmp_path / "guide" / "use.md").write_text("# Use\n\nWait 5 s.\n")
    return tmp_path


def test_facts_are_numbers_with_units_of_knowledge_documents(folder: Path) -> None:
    found = [(fact.document, fact.line, fact.number) for fact in fact_check.facts(folder)]
    assert found == [("chip.md", 4, "4096 bytes"), ("chip.md", 9, "512 GB/s"), ("chip.md", 9, "7 cycles"), ("chip.md", 13, "200 ns")]


def test_a_fact_stands_in_its_sentence_or_row(folder: Path) -> None:
    texts = [fact.text for fact in fact_check.facts(folder)]
    assert texts[1] == "The bus has 512 GB/s."
    assert texts[3] == "level: L2; latency: 200 ns"


def test_the_same_seed_draws_the_same_facts(folder: Path) -> None:
    assert fact_check.draw(folder, 3, 1) == fact_check.draw(folder, 3, 1)
    assert len(set(fact_check.draw(folder, 4, 2))) == 4


@pytest.mark.parametrize(("words", "count"), [("", 1), (" (unverified here)", 0), (" (arXiv 2402.13499)", 0)])
def test_estimates_of_documented_pages_without_a_source_are_listed(tmp_path: Path, words: str, count: int) -> None:
    text = f"---\ntitle: Chip\ntrust: documented\n---\n\n# Chip\n\n## Bus (measured)\n\nFull 3 GB/s.\n\n## Launch\n\nA launch costs about 5 us{words}.\n"
    (tmp_path / "chip.md").write_text(text)
    assert [fact.number for fact in fact_check.unmarked(tmp_path)] == ["5 us"] * count


def test_the_documents_have_no_unmarked_estimates() -> None:
    docs = Path(__file__).resolve().parents[2] / "docs"
    assert [f"{fact.document}:{fact.line}: {fact.text}" for fact in fact_check.unmarked(docs)] == []
