"""A base that follows a directory."""

from __future__ import annotations

import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kb.errors import DocumentError
from kb.store import KnowledgeBase
from kb_ingest.pipeline import IngestReport
from kb_ingest.watch import watch

WAIT_S = 120.0


class Watcher:
    def __init__(self, base: KnowledgeBase, folder: Path) -> None:
        self.reports: queue.Queue[IngestReport] = queue.Queue()
        self.stop = threading.Event()
        self._base = base
        options = {"on_report": self.reports.put, "stop": self.stop, "debounce_ms": 50}
        self._thread = threading.Thread(target=lambda: watch([folder], base, **options))
        self._thread.start()

    def until(self, holds: Callable[[set[str]], bool]) -> list[IngestReport]:
        """Return the reports up to the one after which the sources are as wanted."""
        seen = []
        while True:
            seen.append(self.reports.get(timeout=WAIT_S))
            if holds({stored.source for stored in self._base.documents()}):
                return seen

    def end(self) -> None:
        self.stop.set()
        self._thread.join(WAIT_S)
        assert not self._thread.is_alive()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "notes"
    path.mkdir()
    (path / "a.md").write_text("# A\n\nShared memory has 32 banks.\n")
    return path


@pytest.fixture
def watched(tmp_path: Path, folder: Path) -> Iterator[tuple[KnowledgeBase, Watcher]]:
    with KnowledgeBase.open(tmp_path / "home", embedder="hashing") as base:
        watcher = Watcher(base, folder)
        try:
            watcher.until(lambda sources: sources == {"notes/a.md"})
            yield base, watcher
        finally:
            watcher.end()


def test_new_edited_moved_and_deleted_files_are_followed(watched: tuple[KnowledgeBase, Watcher], folder: Path) -> None:
    base, watcher = watched
    (folder / "b.md").write_text("# B\n\nA warp has 32 lanes.\n")
    watcher.until(lambda sources: "notes/b.md" in sources)
    (folder / "b.md").write_text("# B\n\nA wavefront has 64 lanes.\n")
    watcher.until(lambda sources: bool(base.query("wavefront 64 lanes").hits and "64" in base.query("wavefront 64 lanes").hits[0].text))
    (folder / "b.md").rename(folder / "c.md")
    moves = watcher.until(lambda sources: sources == {"notes/a.md", "notes/c.md"})
    assert sum(report.embedded for report in moves) == 0
    (folder / "c.md").unlink()
    watcher.until(lambda sources: sources == {"notes/a.md"})
    assert base.check().problems == ()


def test_missing_directory_is_refused(tmp_path: Path, folder: Path) -> None:
    with KnowledgeBase.open(tmp_path / "home", embedder="hashing") as base:
        for path in (tmp_path / "nothing", folder / "a.md"):
            with pytest.raises(DocumentError, match="no such directory"):
                watch([path], base)
        assert base.documents() == []


def test_directory_that_vanishes_ends_the_watch_and_empties_nothing(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def one_change(*folders: Path, **options: object) -> Iterator[set[object]]:
        (folder / "a.md").unlink()
        folder.rmdir()
        yield set()

    monkeypatch.setattr("watchfiles.watch", one_change)
    with KnowledgeBase.open(tmp_path / "home", embedder="hashing") as base:
        with pytest.raises(DocumentError, match="gone"):
            watch([folder], base)
        assert [stored.source for stored in base.documents()] == ["notes/a.md"]


def test_interrupt_ends_the_command_quietly(tmp_path: Path, folder: Path) -> None:
    command = [sys.executable, "-m", "kb.cli", "watch", str(folder), "--home", str(tmp_path / "home"), "--embedder", "hashing"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline().startswith("1 added")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=WAIT_S)
    assert process.returncode in (0, 130), err
    assert "stopped" in err
    assert "Traceback" not in err
    with KnowledgeBase.open(tmp_path / "home") as base:
        assert base.check().problems == ()
