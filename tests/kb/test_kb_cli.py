"""The command `kb` as scripts see it: exit codes, what goes to stdout and to stderr. In this process but for what starting one proves."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kb.cli import main


def kb(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        for name, value in (("KEVOLVE_HOME", str(home)), ("KEVOLVE_EMBEDDER", "hashing"), ("COLUMNS", "120")):
            patch.setenv(name, value)
        patch.setattr(sys, "argv", ["kb", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
    code = ended.value.code
    assert code is None or isinstance(code, int)
    return subprocess.CompletedProcess(arguments, code or 0, out.getvalue(), err.getvalue())


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("cli")
    docs = root / "docs"
    docs.mkdir()
    (docs / "banks.md").write_text("---\ntargets: [nvidia]\n---\n# Banks\n\nShared memory has 32 banks.\n")
    (docs / "lds.md").write_text("---\ntargets: [amd]\n---\n# LDS\n\nShared memory is called LDS.\n")
    done = kb(root, "ingest", str(docs), "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["documents"] == {"added": 2, "updated": 0, "unchanged": 0, "removed": 0, "failed": 0}
    return root


def test_query_prints_the_fields_that_scripts_rely_on(home: Path) -> None:
    done = kb(home, "query", "shared memory banks", "--json", "--explain", "--target", "cuda:sm_90")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["abstained"] is False
    (hit,) = result["hits"]
    assert hit["source"] == {"path": "docs/banks.md", "line_start": 6, "line_end": 6}
    assert {"rank", "score", "document", "section_path", "kind", "targets", "source", "pages", "citation", "text", "explain"} <= set(hit)
    assert hit["pages"] is None
    assert sum(hit["explain"].values()) == pytest.approx(hit["score"])


def test_a_target_that_nothing_is_about_is_named(home: Path, tmp_path: Path) -> None:
    (tmp_path / "fusion.md").write_text("# Fusion\n\nFuse pointwise work into the reduction.\n")
    assert kb(tmp_path / "home", "ingest", str(tmp_path / "fusion.md")).returncode == 0
    assert "nothing of this is about 'mtiaa'" in kb(tmp_path / "home", "query", "fuse pointwise work", "--target", "mtiaa").stderr
    assert kb(home, "query", "shared memory banks", "--target", "cuda:sm_90").stderr == ""


def test_counts_are_words_and_the_version_is_told(home: Path) -> None:
    assert "\ntargets: amd 1, nvidia 1\n" in kb(home, "stats").stdout
    assert kb(home, "--version").stdout.startswith("kb ")


def test_abstention_exits_1_and_says_why(home: Path) -> None:
    done = kb(home, "query", "the Quuxotron9 banks")
    assert done.returncode == 1
    assert "Quuxotron9" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("query", ""), 2, "empty"),
        (("query", "x", "--kind", "poem"), 2, "known: guide"),
        (("query", "x", "--valid-for", "triton"), 2, "package=version"),
        (("query", "x", "--target", "no target"), 2, "cuda:sm_90"),
        (("query", "x", "--mode", "magic"), 2, "known: hybrid"),
        (("query", "x", "--top-k", "0"), 2, "top-k"),
        (("query", "x", "--embedder", "hashing:64"), 3, "another embedder"),
        (("show", "nothing"), 2, "kb tree"),
        (("remove", "nothing"), 1, "kb tree"),
        (("ingest", "/no/such/path"), 2, "no such file"),
        (("eval", "/no/such/suite"), 2, "no such file"),
        (("nonsense",), 2, "No such command"),
        (("query",), 2, "Examples: kb query"),
        (("ingest", "--includ", "x"), 2, "Examples: kb ingest"),
    ],
)
def test_misuse_gives_one_clear_message(home: Path, arguments: tuple[str, ...], code: int, message: str) -> None:
    done = kb(home, *arguments)
    assert (done.returncode, message in done.stderr, "Traceback" in done.stderr) == (code, True, False), done.stderr


def test_missing_base_is_an_environment_error(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "kb.cli", "query", "x", "--home", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert "kb ingest" in done.stderr


def test_failed_files_exit_1_and_are_named(home: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("def f(:\n")
    done = kb(tmp_path / "home", "ingest", str(tmp_path / "bad.py"), "--json")
    assert done.returncode == 1
    assert "bad.py" in done.stderr
    assert json.loads(done.stdout)["documents"]["failed"] == 1


def test_a_file_without_text_is_named(home: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.md").write_text("")
    done = kb(tmp_path / "home", "ingest", str(tmp_path / "empty.md"), "--json")
    assert (done.returncode, json.loads(done.stdout)["empty"]) == (0, ["empty.md"]) and "no text found in empty.md" in done.stderr


def test_tree_show_stats_check_and_ask_print_json(home: Path) -> None:
    families = json.loads(kb(home, "tree", "--json").stdout)
    assert [node["label"] for node in families] == ["amd", "nvidia"]
    shown = json.loads(kb(home, "show", "docs/banks.md", "--json").stdout)
    assert shown["chunks"][0]["text"] == "Shared memory has 32 banks."
    assert json.loads(kb(home, "show", shown["chunks"][0]["chunk_id"], "--json").stdout)["source"] == "docs/banks.md"
    assert json.loads(kb(home, "stats", "--json").stdout)["documents"] == 2
    assert json.loads(kb(home, "check", "--json").stdout)["consistent"] is True
    brief = json.loads(kb(home, "ask", "How many banks does shared memory have?", "--json").stdout)
    assert brief["findings"][0]["claim"] == "Shared memory has 32 banks."


@pytest.mark.parametrize("module", ["kb.cli", "agents.cli"])
def test_help_loads_no_heavy_package(home: Path, module: str) -> None:
    environment = {**os.environ, "KEVOLVE_HOME": str(home)}
    command = [sys.executable, "-X", "importtime", "-m", module, "--help"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    loaded = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert "typer" in loaded
    assert not loaded & {"torch", "numpy", "sqlalchemy", "chromadb", "langgraph", "langchain_core", "sentence_transformers", "httpx"}
