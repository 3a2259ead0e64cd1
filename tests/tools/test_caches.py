"""Where compiled code is kept."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from tools.errors import MachineError
from tools.sandbox.caches import cache_directory


def test_the_cache_lies_in_the_state_directory(tmp_path: Path) -> None:
    assert cache_directory(tmp_path) == tmp_path / "cache"
    assert (tmp_path / "cache").is_dir()


def test_a_path_that_breaks_compilers_commands_is_replaced_by_a_private_one_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    path = cache_directory(tmp_path / "my home")
    assert path.parent == tmp_path.resolve() and " " not in path.name
    assert path.stat().st_mode & 0o777 == 0o700
    assert cache_directory(tmp_path / "my home") == path != cache_directory(tmp_path / "my other home")
    path.rmdir()
    path.symlink_to(tmp_path)
    with pytest.raises(MachineError, match="not a directory of this user"):
        cache_directory(tmp_path / "my home")


def test_without_any_usable_path_the_error_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "a blank"))
    with pytest.raises(MachineError, match="choose a --home without blanks"):
        cache_directory(tmp_path / "my home")
