from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from kb.store import KnowledgeBase
from kb_ingest import checkout
from kb_ingest.pipeline import ingest

GIT = ["git", "-c", "user.name=A", "-c", "user.email=a@b", "-c", "commit.gpgsign=false", "-c", "init.defaultBranch=main"]


def git(folder: Path, *arguments: str) -> str:
    return subprocess.run([*GIT, *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    root = tmp_path / "work"
    (root / "docs").mkdir(parents=True)
    git(root, "init", "-q")
    git(root, "remote", "add", "origin", "https://user:secret@github.com/owner/name.git")
    (root / "docs" / "page.md").write_text("# Page\n\nAbout zyzzyva warps.\n")
    (root / "other.md").write_text("# Other\n\ntext\n")
    git(root, "add", ".")
    git(root, "commit", "-qm", "one")
    checkout.forget()
    return root


def test_file_of_a_checkout_is_cited_with_repository_and_commit(repository: Path, tmp_path: Path) -> None:
    with KnowledgeBase.open(tmp_path / "home", embedder="hashing") as base:
        ingest([repository / "docs"], base)
        (hit,) = base.query("zyzzyva warps").hits
    assert hit.citation == f"github.com/owner/name@{git(repository, 'rev-parse', 'HEAD')}:docs/page.md"


@pytest.mark.parametrize("change", ["edit", "untracked", "nothing"])
def test_only_files_as_committed_have_an_origin(repository: Path, change: str) -> None:
    path = repository / ("new.md" if change == "untracked" else "other.md")
    if change != "nothing":
        path.write_text("# Changed\n")
    assert (checkout.origin_of(path, path.read_bytes()) is not None) is (change == "nothing")


@pytest.mark.parametrize("version", ["2", "4"])
def test_packed_refs_detached_heads_and_index_versions_are_read(repository: Path, version: str) -> None:
    head = git(repository, "rev-parse", "HEAD")
    git(repository, "pack-refs", "--all")
    git(repository, "update-index", f"--index-version={version}")
    path = repository / "docs" / "page.md"
    for _ in range(2):
        checkout.forget()
        origin = checkout.origin_of(path, path.read_bytes())
        assert origin is not None
        assert (origin.commit, origin.repository) == (head, "github.com/owner/name")
        git(repository, "checkout", "-q", "--detach")


def test_hooks_and_commands_of_a_checkout_never_run(repository: Path) -> None:
    marker = repository.parent / "ran"
    git(repository, "config", "core.fsmonitor", f"touch {marker}")
    for name in ("post-checkout", "post-index-change", "fsmonitor-watchman"):
        hook = repository / ".git" / "hooks" / name
        hook.write_text(f"#!/bin/sh\ntouch {marker}\n")
        hook.chmod(0o755)
    path = repository / "other.md"
    assert checkout.origin_of(path, path.read_bytes()) is not None
    assert not marker.exists()


@pytest.mark.parametrize("broken", [b"", b"DIRC", b"DIRC\0\0\0\x02\0\0\0\x05abc", b"junk" * 100])
def test_broken_index_means_no_origin(repository: Path, broken: bytes) -> None:
    (repository / ".git" / "index").write_bytes(broken)
    checkout.forget()
    path = repository / "other.md"
    assert checkout.origin_of(path, path.read_bytes()) is None
