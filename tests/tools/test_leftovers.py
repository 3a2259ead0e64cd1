"""What a candidate leaves on disk costs its evaluator no more than a file does."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tools.check.vendored import copied_libraries
from tools.errors import MachineError
from tools.receipts import write_receipt
from tools.sandbox.leftovers import read_tail, remove_tree


def test_links_pipes_and_directories_read_as_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"secret")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    assert read_tail(tmp_path / "file", 3) == b"ret"
    assert [read_tail(tmp_path / name, 3) for name in ("link", "pipe", "folder", "nothing")] == [b""] * 4


def test_a_tree_without_end_is_removed(tmp_path: Path) -> None:
    top = tmp_path / "top"
    top.mkdir()
    here = os.open(top, os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("d", dir_fd=here)
        deeper = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = deeper
    os.close(here)
    remove_tree(top)
    assert not top.exists()


def test_a_copy_of_an_installed_library_is_found_under_any_name_and_with_a_longer_end(tmp_path: Path) -> None:
    import torch

    installed = Path(torch.__file__).parent / "lib" / "libc10.so"
    copied = tmp_path / "kernel.so"
    copied.write_bytes(installed.read_bytes() + b"x" * 5000)
    own = tmp_path / "own.so"
    own.write_bytes(os.urandom(1 << 20))
    assert copied_libraries([str(copied), str(own), str(installed)], tmp_path) == {str(copied)}


@pytest.mark.parametrize("name", ["../../evil", "/etc/evil", "a/b", "", ".hidden", "x" * 200, "*"])
def test_a_receipt_is_written_for_an_id_alone(name: str, tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="no candidate's id"):
        write_receipt(tmp_path / "receipts", name, {})
