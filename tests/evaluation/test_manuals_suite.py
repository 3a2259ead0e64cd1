"""The manuals suite: what can be checked without its corpus, and the checker on a corpus of one page."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from evaluation import manuals

PAGE = """# Scratchpad

Sixteen banks of plain memory.

## Ports

Arbitration is round-robin.
"""


def write_suite(folder: Path, **changes: object) -> Path:
    folder.mkdir()
    row = {"id": "paraphrase-001", "text": "who wins when two requesters collide", "type": "paraphrase", "split": "dev"}
    row |= {"gold": [{"document": "a+b/docs/page.md", "section": "Ports"}]} | changes
    (folder / "questions.jsonl").write_text(json.dumps(row) + "\n")
    (folder / "repositories.json").write_text(json.dumps([{"repository": "a/b", "commit": "0" * 40, "folders": ["docs"]}]))
    return folder


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    page = tmp_path / "corpus" / "a+b" / "docs" / "page.md"
    page.parent.mkdir(parents=True)
    page.write_text(PAGE)
    return tmp_path / "corpus"


def test_questions_are_complete_and_unique() -> None:
    questions = manuals.read_questions()
    assert len({question.id for question in questions}) == len(questions) >= 160
    assert len({question.text for question in questions}) == len(questions)
    assert min(Counter(question.type for question in questions).values()) >= 20
    for question in questions:
        assert bool(question.gold) == (question.type != "unanswerable"), question.id
        assert bool(question.wrong) == (question.type == "wrong_target"), question.id
        assert (len(question.gold) > 1) >= (question.type == "multi_hop"), question.id


def test_a_third_of_every_type_is_held_out() -> None:
    types = Counter(question.type for question in manuals.read_questions())
    held = Counter(question.type for question in manuals.read_questions() if question.split == "held_out")
    assert all(abs(held[name] - number / 3) <= 1 for name, number in types.items())


def test_gold_and_wrong_documents_lie_in_the_named_folders() -> None:
    folders = [f"{item.folder}/{folder}" for item in manuals.read_repositories() for folder in item.folders]
    for question in manuals.read_questions():
        for gold in question.gold:
            assert any(gold.document.startswith(f"{folder}/") for folder in folders), gold
            assert not gold.document.startswith(question.wrong or ("\0",)), question.id


def test_a_sound_question_has_no_finding(corpus: Path, tmp_path: Path) -> None:
    assert manuals.check(corpus, write_suite(tmp_path / "suite")) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"text": "is arbitration fair"}, "shares ['arbitr']"),
        ({"text": "is arbitrating fair"}, ""),
        ({"gold": [{"document": "a+b/docs/page.md", "section": "Port"}]}, "no section 'Port'"),
        ({"gold": [{"document": "a+b/docs/none.md", "section": "Ports"}]}, "no such file"),
        ({"absent": ["round-robin"]}, "'round-robin' occurs in a+b/docs/page.md"),
        ({"absent": ["round-rubin"]}, ""),
        ({"text": "is arbitration fair", "type": "rephrasing"}, ""),
    ],
)
def test_findings_name_what_is_wrong(corpus: Path, tmp_path: Path, changes: dict[str, object], said: str) -> None:
    findings = manuals.check(corpus, write_suite(tmp_path / "suite", **changes))
    assert len(findings) == bool(said)
    assert said in "".join(findings)


def test_fetching_checks_out_the_named_folders_at_the_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    origin = tmp_path / "origin"
    for name in ("docs/page.md", "src/code.md"):
        (origin / name).parent.mkdir(parents=True)
        (origin / name).write_text(PAGE)

    def git(*arguments: str) -> str:
        identity = ("-c", "user.name=a", "-c", "user.email=a@example.org")
        return subprocess.run(["git", *identity, *arguments], cwd=origin, check=True, capture_output=True, text=True).stdout.strip()

    for arguments in (("init", "--quiet"), ("add", "."), ("commit", "--quiet", "--no-gpg-sign", "-m", "one")):
        git(*arguments)
    commit = git("rev-parse", "HEAD")
    git("config", "uploadpack.allowFilter", "true")
    git("config", "uploadpack.allowAnySHA1InWant", "true")
    settings = {f"url.file://{origin}.insteadOf": "https://github.com/a/b", "protocol.file.allow": "always"}
    monkeypatch.setenv("GIT_CONFIG_COUNT", str(len(settings)))
    for number, (key, value) in enumerate(settings.items()):
        monkeypatch.setenv(f"GIT_CONFIG_KEY_{number}", key)
        monkeypatch.setenv(f"GIT_CONFIG_VALUE_{number}", value)
    manuals.fetch(manuals.Repository("a/b", commit, ("docs",)), tmp_path / "corpus")
    assert [path.name for path in (tmp_path / "corpus" / "a+b").rglob("*.md")] == ["page.md"]


def test_fetching_an_unknown_repository_fails_with_git_s_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_ALLOW_PROTOCOL", "none")
    with pytest.raises(manuals.EvaluationError, match="git fetch failed for a/b"):
        manuals.fetch(manuals.Repository("a/b", "0" * 40, ("docs",)), tmp_path)
