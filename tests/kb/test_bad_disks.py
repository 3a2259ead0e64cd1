"""Disks that are full or read-only, and writers that get in each other's way."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from kb import databases
from kb.errors import StoreError
from kb.store import KnowledgeBase
from kb.types import Document

READ_ONLY = """
import sys
from kb.errors import StoreError
from kb.store import KnowledgeBase
with KnowledgeBase.open(sys.argv[1]) as base:
    assert "32 banks" in base.query("memory banks").hits[0].text
    assert base.stats()["documents"] == 5
    assert base.conflicts() == ()
    assert all(problem.startswith("vector index: cannot write") for problem in base.check().problems)
    try:
        base.remove("nvidia.md")
    except StoreError as err:
        assert "check the permissions" in str(err), err
    else:
        raise AssertionError("removed from a read-only disk")
print("good")
"""

FULL = """
import subprocess, sys
from pathlib import Path
from kb.errors import StoreError
from kb.store import KnowledgeBase
from kb_ingest.pipeline import ingest
disk, folder = sys.argv[1:]
with KnowledgeBase.open(disk + "/home", embedder="hashing") as base:
    try:
        ingest([folder], base)
    except StoreError as err:
        assert "free some space" in str(err) or "cannot be written" in str(err), err
    else:
        raise AssertionError("the disk was not full")
with KnowledgeBase.open(disk + "/home") as base:
    there = {stored.source for stored in base.documents()}
    assert 0 < len(there) < 60, there
    assert base.query("number 0 of the page", 3).hits
subprocess.run(["mount", "-o", "remount,size=100m", disk], check=True)
with KnowledgeBase.open(disk + "/home") as base:
    assert base.check(repair=True).problems == ()
    report = ingest([folder], base)
    assert (report.added, report.unchanged) == (60 - len(there), len(there)), report
    assert base.check().problems == ()
print("good")
"""


def in_mount(mount: str, program: str, *arguments: str) -> None:
    """Run a program in a mount namespace of its own, after some mounting; skip where that is not allowed."""
    if os.geteuid() != 0 or shutil.which("unshare") is None or subprocess.run(["unshare", "-m", "true"], check=False).returncode:
        pytest.skip("mounting needs root and unshare")
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", f'{mount} && exec "$@"', "sh", sys.executable, "-c", program, *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    if "mount:" in done.stderr:
        pytest.skip(f"cannot mount here: {done.stderr.strip()}")
    assert done.stdout.strip() == "good", done.stderr


def test_queries_work_on_a_read_only_disk_and_writes_say_why_not(filled: KnowledgeBase) -> None:
    home = filled.home
    filled.close()
    in_mount(f"mount --bind {home} {home} && mount -o remount,ro,bind {home}", READ_ONLY, str(home))


def test_full_disk_loses_nothing_and_the_next_ingestion_completes(tmp_path: Path) -> None:
    folder, disk = tmp_path / "docs", tmp_path / "disk"
    folder.mkdir()
    disk.mkdir()
    for number in range(60):
        lines = "\n\n".join(
            f"This is paragraph {line} and number {number} of the page, with words enough to fill a disk." for line in range(40)
        )
        (folder / f"{number}.md").write_text(f"# Page {number}\n\n{lines}\n")
    in_mount(f"mount -t tmpfs -o size=1200k none {disk}", FULL, str(disk), str(folder))


def test_second_writer_waits_for_the_first(base: KnowledgeBase, make_document: Callable[..., Document]) -> None:
    base.add_document(make_document("a.md", {"One": "alpha"}))
    holder = sqlite3.connect(base.home / "kb" / "catalogue.sqlite", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    outcome: list[str] = []
    writer = threading.Thread(target=lambda: outcome.append(base.add_document(make_document("b.md", {"One": "beta"}))))
    writer.start()
    assert base.query("alpha").hits  # readers do not wait
    assert outcome == []
    holder.execute("COMMIT")
    holder.close()
    writer.join(60)
    assert outcome == ["added"]


def test_writer_that_waits_too_long_says_who_is_in_the_way(
    base: KnowledgeBase, make_document: Callable[..., Document], monkeypatch: pytest.MonkeyPatch
) -> None:
    base.add_document(make_document("a.md", {"One": "alpha"}))
    monkeypatch.setattr(databases, "BUSY_TIMEOUT_MS", 50)
    holder = sqlite3.connect(base.home / "kb" / "catalogue.sqlite", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with KnowledgeBase.open(base.home) as other, pytest.raises(StoreError, match="another process is writing"):
        other.remove("a.md")
    holder.execute("ROLLBACK")
    holder.close()
    assert base.check().problems == ()


def test_base_of_a_newer_program_is_not_changed_by_a_byte(base: KnowledgeBase, make_document: Callable[..., Document]) -> None:
    base.add_document(make_document("a.md", {"One": "alpha"}))
    path = base.home / "kb" / "catalogue.sqlite"
    base.close()
    connection = sqlite3.connect(path)
    connection.execute("UPDATE meta SET value = '999' WHERE key = 'schema_version'")
    connection.commit()
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    before = path.read_bytes()
    for _ in range(2):
        with pytest.raises(StoreError, match="update the program"):
            KnowledgeBase.open(base.home, embedder="hashing")
    assert path.read_bytes() == before
