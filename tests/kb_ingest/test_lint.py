"""`kb lint`: every rule with what it must find and the near miss that it must let pass."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from kb.cli import app
from kb.errors import DocumentError
from kb_ingest.lint.page import read_page
from kb_ingest.lint.run import lint

HEAD = {
    "title": "Copies",
    "kind": "guide",
    "targets": '["cuda:sm_90"]',
    "trust": "documented",
    "sources": '["https://example.org/manual, section 3"]',
}


def document(body: str = "# Copies\n", **changes: str | None) -> str:
    values = {**HEAD, **changes}
    return "---\n" + "".join(f"{name}: {value}\n" for name, value in values.items() if value is not None) + f"---\n\n{body}"


def write(folder: Path, **documents: str) -> Path:
    """Write documents by name and an index that links them all."""
    links = "\n".join(f"- [{name}]({name}.md)" for name in documents if name != "index")
    for name, text in {"index": document(f"# Index\n\n{links}\n", targets="[generic]"), **documents}.items():
        (folder / f"{name}.md").write_text(text)
    return folder


def found(folder: Path) -> list[tuple[str, str, int]]:
    return [(finding.rule, finding.document, finding.line) for finding in lint(folder).findings]


def test_a_clean_folder_has_no_finding(tmp_path: Path) -> None:
    assert found(write(tmp_path, page=document())) == []


@pytest.mark.parametrize(
    ("changes", "line", "said"),
    [
        ({"title": None}, 1, "`title` wants"),
        ({"kind": "guidance"}, 3, "`kind` wants one of guide"),
        ({"trust": "sure"}, 5, "`trust` wants one of measured"),
        ({"trust": None}, 1, "`trust` wants one of measured"),
        ({"targets": "[]"}, 4, "`targets` wants a list"),
        ({"targets": '["cuda sm_90"]'}, 4, "not a target"),
        ({"valid_for": '{triton: "3.6 or so"}'}, 7, "not a version range for triton"),
        ({"see_als": "[]"}, 7, "did you mean 'see_also'"),
        ({"limits": "{sram_bytes: {value: 4, unit: bytes, trust: documented}}"}, 1, "wants value, unit, source and trust"),
        ({"limits": "\n  sram_bytes: {value: 4, unit: KiB, source: manual, trust: documented}"}, 8, "its name says bytes"),
    ],
)
def test_broken_front_matter_is_named_with_its_line(tmp_path: Path, changes: dict[str, str | None], line: int, said: str) -> None:
    (finding,) = lint(write(tmp_path, page=document(**changes))).findings
    assert (finding.rule, finding.line) == ("front-matter", line)
    assert said in finding.message


@pytest.mark.parametrize(
    "changes",
    [
        {"valid_for": '{triton: ">=3.6,<4"}'},
        {"status": "draft"},
        {"kind": "kernel", "trust": None, "sources": None},
        {"limits": "\n  sram_bytes: {value: 4096, unit: bytes, source: manual, trust: documented}", "sources": None},
        {"limits": '\n  lanes: {value: 4, unit: "1", source: manual, trust: documented}'},
    ],
)
def test_valid_front_matter_passes(tmp_path: Path, changes: dict[str, str | None]) -> None:
    assert found(write(tmp_path, page=document(**changes))) == []


def test_a_document_without_front_matter_and_one_with_broken_yaml_are_named(tmp_path: Path) -> None:
    folder = write(tmp_path, bare="# Copies\n", broken="---\ntitle: [\n---\n")
    assert [item[:2] for item in found(folder)] == [("front-matter", "bare.md"), ("front-matter", "broken.md")]


@pytest.mark.parametrize(
    ("sources", "is_finding"),
    [
        (None, True),
        ("[]", True),
        ("a manual", True),
        ("[records/none.json]", True),
        ("[records/run.json]", False),
        ("[arXiv 2407.08608 section 3]", False),
        ("[https://example.org/none.json]", False),
    ],
)
def test_sources_are_present_and_files_among_them_exist(tmp_path: Path, sources: str | None, is_finding: bool) -> None:
    (tmp_path / "records").mkdir()
    (tmp_path / "records" / "run.json").write_text("{}")
    rules = [item[0] for item in found(write(tmp_path, page=document(sources=sources)))]
    assert rules == (["source"] if is_finding else [])


@pytest.mark.parametrize(
    ("link", "is_finding"),
    [
        ("other.md", False),
        ("other.md#asynchronous-copies-tma", False),
        ("other.md#copies-1", False),
        ("#copies", False),
        ("https://example.org/none.md", False),
        ("mailto:a@example.org", False),
        ("picture.png", True),
        ("othr.md", True),
        ("other.md#asynchronous-copies", True),
        ("other.md#copies-2", True),
        ("#copy", True),
    ],
)
def test_links_and_anchors_resolve(tmp_path: Path, link: str, is_finding: bool) -> None:
    other = document("# Copies\n\n## Asynchronous copies (`TMA`)\n\n## Copies\n")
    folder = write(tmp_path, other=other, page=document(f"# Copies\n\ntext\nand [a link]({link})\n\n```\n[not](one.md)\n```\n"))
    assert found(folder) == ([("link", "page.md", 12)] if is_finding else [])


def test_an_orphan_and_an_island_are_told_apart(tmp_path: Path) -> None:
    write(tmp_path, page=document())
    (tmp_path / "alone.md").write_text(document("# Copies\n\n[itself](alone.md)\n"))
    (tmp_path / "one.md").write_text(document("# Copies\n\n[two](two.md)\n"))
    (tmp_path / "two.md").write_text(document("# Copies\n\n[one](one.md)\n"))
    messages = {finding.document: finding.message for finding in lint(tmp_path).findings}
    assert messages.keys() == {"alone.md", "one.md", "two.md"}
    assert "orphan" in messages["alone.md"]
    assert "does not reach" in messages["one.md"]


def test_an_index_reaches_documents_of_folders_below(tmp_path: Path) -> None:
    (tmp_path / "chips").mkdir()
    write(tmp_path / "chips", page=document())
    (tmp_path / "index.md").write_text(document("# Index\n\n[chips](chips/)\n"))
    assert found(tmp_path) == []


@pytest.mark.parametrize(
    ("sentence", "is_finding"),
    [
        ("The latency is about 180.", True),
        ("Bandwidth: 3.35, measured.", True),
        ("A launch takes 5 to 7, a copy more.", True),
        ("The latency is about 180 cycles.", False),
        ("Bandwidth: 3.35 TB/s, measured.", False),
        ("A launch takes 5 to 7 µs.", False),
        ("DRAM throughput 50 to 60 %.", False),
        ("The kernel takes 2 arguments.", False),
        ("Latency matters. Tiles are 64 by 64.", False),
        ("The latency of `load` is hidden by 4 warps.", False),
    ],
)
def test_numbers_of_quantities_carry_units(tmp_path: Path, sentence: str, is_finding: bool) -> None:
    folder = write(tmp_path, page=document(f"# Copies\n\n{sentence}\n"))
    assert found(folder) == ([("unit", "page.md", 11)] if is_finding else [])


@pytest.mark.parametrize(
    ("header", "cell", "is_finding"),
    [
        ("latency", "180", True),
        ("latency (cycles)", "180", False),
        ("latency", "180 cycles", False),
        ("stages", "3", False),
    ],
)
def test_columns_of_quantities_carry_units(tmp_path: Path, header: str, cell: str, is_finding: bool) -> None:
    folder = write(tmp_path, page=document(f"# Copies\n\n| level | {header} |\n|---|---|\n| L2 | {cell} |\n"))
    assert found(folder) == ([("unit", "page.md", 13)] if is_finding else [])


@pytest.mark.parametrize(
    ("sentence", "is_finding"),
    [
        ("A tile costs 2*m*n operations.", True),
        ("A tile costs `2*m*n` operations.", False),
        ("A tile costs 2 * m * n operations.", False),
        ("A tile costs *2 m n* operations.", False),
        ("A tile costs 2·m·n operations.", False),
    ],
)
def test_products_are_not_read_as_emphasis(tmp_path: Path, sentence: str, is_finding: bool) -> None:
    folder = write(tmp_path, page=document(f"# Copies\n\n{sentence}\n"))
    assert found(folder) == ([("markup", "page.md", 11)] if is_finding else [])


def limit(value: int, note: str = "") -> str:
    return f"\n  shared_memory_per_block_bytes: {{value: {value}, unit: bytes, source: manual, trust: documented{note}}}"


@pytest.mark.parametrize(
    ("second", "changes", "is_finding"),
    [
        (limit(166912), {}, True),
        (limit(232448), {}, False),
        (limit(166912, ", note: with the small carve-out"), {}, False),
        (limit(166912), {"targets": '["cuda:sm_80"]'}, False),
    ],
)
def test_a_limit_has_one_value_for_a_target(tmp_path: Path, second: str, changes: dict[str, str], is_finding: bool) -> None:
    folder = write(tmp_path, chip=document(limits=limit(232448)), other=document(limits=second, **changes))
    assert [item[:2] for item in found(folder)] == ([("fact", "other.md")] if is_finding else [])


@pytest.mark.parametrize(
    ("sentence", "is_finding"),
    [
        ("Shared memory per block is 228 KiB.", False),
        ("Shared memory per block is 227 KB.", False),
        ("Shared memory per block: 164 KB.", True),
        ("Shared memory per block and 164 KB of L1.", False),
        ("Shared memory per block: 128 bytes per cycle.", False),
    ],
)
def test_prose_does_not_contradict_a_limit(tmp_path: Path, sentence: str, is_finding: bool) -> None:
    folder = write(tmp_path, chip=document(limits=limit(232448)), page=document(f"# Copies\n\n{sentence}\n"))
    assert found(folder) == ([("fact", "page.md", 11)] if is_finding else [])


@pytest.mark.parametrize(
    ("sentence", "is_finding"),
    [
        ("The cold L2 cache latency is 400 ns.", True),
        ("The cold L2 cache latency is 201 ns.", False),
        ("The cold L2 cache latency is 0.2 µs.", False),
        ("The warm L1 cache latency is 400 ns.", False),
        ("The cold L2 cache latency is 400 cycles.", False),
    ],
)
def test_two_documents_do_not_contradict_each_other(tmp_path: Path, sentence: str, is_finding: bool) -> None:
    first = document("# Copies\n\nThe cold L2 cache latency is 200 ns.\n")
    folder = write(tmp_path, one=first, two=document(f"# Copies\n\n{sentence}\n"))
    assert found(folder) == ([("fact", "two.md", 11)] if is_finding else [])


EXCEPTION = "- {rule: unit, document: 'pa*.md', match: latency is, reason: in cycles throughout}\n"


def test_an_exception_with_a_reason_excuses_a_finding(tmp_path: Path) -> None:
    write(tmp_path, page=document("# Copies\n\nThe latency is 180.\n"))
    (tmp_path / "lint.yaml").write_text(EXCEPTION)
    report = lint(tmp_path)
    assert report.findings == ()
    assert [(finding.rule, exemption.reason) for finding, exemption in report.excused] == [("unit", "in cycles throughout")]


def test_an_exception_that_excuses_nothing_is_a_finding(tmp_path: Path) -> None:
    write(tmp_path, page=document("# Copies\n\nThe bandwidth is 180.\n"))
    (tmp_path / "lint.yaml").write_text(EXCEPTION)
    assert sorted(item[0] for item in found(tmp_path)) == ["exception", "unit"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- {rule: unit, document: a.md, reason: ''}\n", "no reason"),
        ("- {rule: unit, document: a.md}\n", "wants `rule`"),
        ("- {rule: units, document: a.md, reason: x}\n", "unknown rule 'units'; known: exception, fact"),
        ("rule: unit\n", "not a list"),
        ("- [\n", "not YAML"),
    ],
)
def test_a_broken_exceptions_file_is_misuse(tmp_path: Path, text: str, said: str) -> None:
    write(tmp_path, page=document())
    (tmp_path / "lint.yaml").write_text(text)
    with pytest.raises(DocumentError, match=said):
        lint(tmp_path)


def test_folders_without_documents_are_misuse(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(DocumentError):
            lint(path)


def test_the_command_prints_paths_with_lines_and_says_no_by_its_exit_code(tmp_path: Path) -> None:
    write(tmp_path, page=document("# Copies\n\nThe latency is 180.\n"))
    result = CliRunner().invoke(app, ["lint", str(tmp_path)])
    assert result.exit_code == 1
    assert f"{tmp_path / 'page.md'}:11: unit: a unit is missing: 'latency is 180'\n1 finding in 2 documents" in result.stdout
    as_json = CliRunner().invoke(app, ["lint", str(tmp_path), "--json"])
    assert (as_json.exit_code, json.loads(as_json.stdout)["findings"][0]["line"]) == (1, 11)


def test_the_command_says_yes_for_a_clean_folder(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["lint", str(write(tmp_path, page=document()))])
    assert (result.exit_code, result.stdout) == (0, "no findings in 2 documents, 0 excused in lint.yaml\n")


def test_labels_and_named_anchors_count_as_anchors(tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text('(label)=\n\n<a id="named"></a>\n\n# Title {#own}\n')
    assert {"label", "named", "own", "title"} <= read_page(tmp_path / "page.md", "page.md").anchors
