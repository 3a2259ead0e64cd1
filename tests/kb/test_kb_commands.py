"""The commands on the life of knowledge, run in this process."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from kb.cli import app
from kb.errors import KnowledgeError

runner = CliRunner()


def names() -> list[str]:
    import typer.main

    return sorted(typer.main.get_command(app).commands)  # type: ignore[attr-defined]  # a group, by construction


@pytest.mark.parametrize("name", names())
def test_command_has_help_with_examples(name: str) -> None:
    done = runner.invoke(app, [name, "--help"])
    assert done.exit_code == 0
    assert "Examples:" in done.output or "Example:" in done.output


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KEVOLVE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("KEVOLVE_EMBEDDER", "hashing")
    docs = tmp_path / "docs"
    docs.mkdir()
    for name, size in (("a", 64), ("b", 96)):
        (docs / f"{name}.md").write_text(f"---\ntargets: [nvidia]\n---\n# Buffers\n\nThe tile buffer per core is {size} KB.\n")
    kb("ingest", str(docs))
    return tmp_path


def kb(*arguments: str, code: int = 0) -> str:
    done = runner.invoke(app, list(arguments))
    assert done.exit_code == code, (done.output, done.exception)
    return done.output


def test_history_and_diff_show_what_an_edit_changed(home: Path) -> None:
    assert kb("diff", "docs/a.md").startswith("added: Buffers")
    (home / "docs" / "a.md").write_text("# Buffers\n\nThe tile buffer per core is 128 KB.\n")
    kb("ingest", str(home / "docs"))
    assert [line.split()[0] for line in kb("history", "docs/a.md").splitlines()] == ["2", "1"]
    assert "+The tile buffer per core is 128 KB." in kb("diff", "docs/a.md")
    assert kb("diff", "docs/a.md", "2", "2", code=1).strip() == "no difference"
    (change,) = json.loads(kb("diff", "docs/a.md", "1", "2", "--json"))
    assert change["change"] == "edited"


def test_conflicts_are_listed_and_shown_under_queries_and_briefs(home: Path) -> None:
    assert "docs/a.md:6; documented" in kb("conflicts")
    assert "Documents disagree:" in kb("query", "tile buffer per core")
    assert "Documents disagree:" in kb("ask", "What is the tile buffer per core?")
    (conflict,) = json.loads(kb("query", "tile buffer per core", "--json"))["conflicts"]
    assert [claim["quote"] for claim in conflict["claims"]] == [f"The tile buffer per core is {size} KB." for size in (64, 96)]
    kb("retire", "docs/b.md", "--by", "docs/a.md", "--reason", "measured anew")
    assert kb("conflicts", code=1).strip() == "no conflict found"
    assert "superseded by docs/a.md" in kb("retire")
    assert "docs/b.md" not in kb("query", "tile buffer per core")
    assert "docs/b.md" in kb("query", "tile buffer per core", "--include-retired")
    kb("retire", "docs/b.md", "--undo")
    kb("retire", "docs/b.md", "--undo", code=1)


def test_import_of_a_file_that_is_none_leaves_no_base_behind(tmp_path: Path) -> None:
    (tmp_path / "bad.kb").write_bytes(b"no archive")
    done = runner.invoke(app, ["import", str(tmp_path / "bad.kb"), "--home", str(tmp_path / "new")])
    assert isinstance(done.exception, KnowledgeError) and "is no export of `kb export`" in str(done.exception)
    assert not (tmp_path / "new").exists()


def test_export_and_import_carry_a_base_to_a_new_home(home: Path) -> None:
    assert "2 documents" in kb("export", str(home / "all.kb"))
    assert kb("import", str(home / "all.kb"), "--home", str(home / "other")).startswith(
        "2 added, 0 updated, 0 unchanged; 2 chunks, 0 embedded"
    )
    assert "consistent: 2 documents" in kb("check", "--home", str(home / "other"))


def test_embedder_is_shown_and_changed(home: Path) -> None:
    assert kb("embedder").startswith("hashing  dimension 256")
    assert "2 texts embedded" in kb("embedder", "hashing:64")
    assert kb("embedder").startswith("hashing:64  dimension 64")
    assert "tile buffer" in kb("query", "tile buffer per core")


def test_address_without_an_endpoints_model_is_refused(home: Path) -> None:
    done = runner.invoke(app, ["embedder", "minilm", "--base-url", "http://localhost:1/v1"])
    assert isinstance(done.exception, ValueError | KnowledgeError)
    assert "openai-compatible:MODEL" in str(done.exception)


def test_lessons_are_listed_and_none_is_the_answer_no(home: Path) -> None:
    assert kb("lessons", "--target", "cpu", code=1).strip() == "no lessons"
