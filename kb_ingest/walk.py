"""Which files a path stands for: itself, or what a directory holds beyond the ignore rules."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from kb_ingest.readers.registry import known_suffixes

IGNORED_FOLDERS = frozenset(
    {
        ".git",
        ".hg",
        ".svn",
        ".venv",
        "venv",
        "node_modules",
        "__pycache__",
        ".mypy_cache",
        ".ruff_cache",
        ".pytest_cache",
        ".tox",
        ".eggs",
        ".idea",
    }
)
MAX_FILE_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True)
class Found:
    """A file to ingest."""

    path: Path
    """Absolute, links not resolved."""
    root: Path | None
    """The directory it was found under; None if it was named itself."""

    @property
    def source(self) -> str:
        """Its name in the store: the directory's name and the path below it, or the file's name."""
        if self.root is None:
            return self.path.name
        return (Path(self.root.name) / self.path.relative_to(self.root)).as_posix()


def absolute_path(path: Path) -> Path:
    """Return the path from the root, without `..`; links stay as they are."""
    return Path(os.path.abspath(path))  # noqa: PTH100  # Path.resolve would follow links


def walk(path: Path, include: Sequence[str] = (), exclude: Sequence[str] = ()) -> Iterator[Found]:
    """Yield the files of a path in sorted order.

    Directories: hidden ones, caches and what `.gitignore` files at any level name are left out, links to directories are not followed (no cycles), and only
    files with an ending that a reader names are taken, or those that match `include`.

    Args:
        path: A file or directory.
        include: Patterns in `.gitignore` syntax; if given, only matching files.
        exclude: Patterns of files to leave out.
    """
    absolute = absolute_path(path)
    if absolute.is_file():
        yield Found(absolute, None)
        return
    import pathspec

    wanted = pathspec.GitIgnoreSpec.from_lines(include) if include else None
    unwanted = pathspec.GitIgnoreSpec.from_lines(exclude)
    suffixes = known_suffixes() - {""}
    rules: list[tuple[Path, pathspec.GitIgnoreSpec]] = []
    for folder, names, files in os.walk(absolute, followlinks=False):
        here = Path(folder)
        rules = [(base, spec) for base, spec in rules if here.is_relative_to(base)]
        if ".gitignore" in files:
            lines = (here / ".gitignore").read_text(encoding="utf-8", errors="replace").splitlines()
            rules.append((here, pathspec.GitIgnoreSpec.from_lines(lines)))

        def ignored(item: Path, suffix: str = "", rules: list[tuple[Path, pathspec.GitIgnoreSpec]] = rules) -> bool:
            return any(spec.match_file(item.relative_to(base).as_posix() + suffix) for base, spec in rules)

        names[:] = sorted(
            name for name in names if name not in IGNORED_FOLDERS and not name.startswith(".") and not ignored(here / name, "/")
        )
        for name in sorted(files):
            item = here / name
            relative = item.relative_to(absolute).as_posix()
            if name.startswith(".") or ignored(item) or unwanted.match_file(relative) or not item.is_file():
                continue
            if wanted.match_file(relative) if wanted is not None else item.suffix.lower() in suffixes:
                yield Found(item, absolute)
