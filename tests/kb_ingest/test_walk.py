from __future__ import annotations

from pathlib import Path

from kb_ingest.walk import walk


def names(root: Path, **options: list[str]) -> list[str]:
    return [found.path.relative_to(root).as_posix() for found in walk(root, **options)]  # type: ignore[arg-type]  # include and exclude


def test_ignore_rules_hidden_files_and_caches_are_left_out(tmp_path: Path) -> None:
    for name in (
        "a.md",
        "b.txt",
        ".hidden.md",
        "build/out.md",
        "node_modules/x.md",
        ".git/y.md",
        "sub/keep.md",
        "sub/drop.md",
        "image.png",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    (tmp_path / ".gitignore").write_text("build/\n")
    (tmp_path / "sub" / ".gitignore").write_text("drop.*\n")
    assert names(tmp_path) == ["a.md", "b.txt", "sub/keep.md"]


def test_include_and_exclude_are_ignore_patterns(tmp_path: Path) -> None:
    for name in ("a.md", "b.md", "c.cfg"):
        (tmp_path / name).write_text("x")
    assert names(tmp_path, include=["*.cfg", "a.*"]) == ["a.md", "c.cfg"]
    assert names(tmp_path, exclude=["b.md"]) == ["a.md"]


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("x")
    (tmp_path / "loop").symlink_to(tmp_path, target_is_directory=True)
    assert names(tmp_path) == ["a.md"]


def test_sources_begin_with_the_directory(tmp_path: Path) -> None:
    (tmp_path / "docs" / "sub").mkdir(parents=True)
    (tmp_path / "docs" / "sub" / "a.md").write_text("x")
    (found,) = walk(tmp_path / "docs" / ".." / "docs")
    assert found.source == "docs/sub/a.md"
    (single,) = walk(tmp_path / "docs" / "sub" / "a.md")
    assert single.source == "a.md"
