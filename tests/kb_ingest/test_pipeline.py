from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kb.errors import DocumentError
from kb.store import KnowledgeBase
from kb.types import Filters, Kind, Trust
from kb_ingest.pipeline import ingest

PAGE = """---
title: Shared memory
kind: hardware
targets: [nvidia, "cuda:sm_90"]
trust: measured
valid_for: {triton: ">=3.6"}
---
# Shared memory

It has banks.

## Limits

227 KB per block.

## Conflicts

Pad the rows.
"""


@pytest.fixture
def base(tmp_path: Path) -> Iterator[KnowledgeBase]:
    with KnowledgeBase.open(tmp_path / "home", embedder="hashing") as opened:
        yield opened


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "docs"
    (root / "sub").mkdir(parents=True)
    (root / "page.md").write_text(PAGE)
    (root / "sub" / "other.md").write_text("# Other\n\nA paragraph about zyzzyva warps.\n")
    (root / "kernel.py").write_text('"""Kernels."""\n\ndef run(x):\n    """Run it."""\n    return x\n')
    return root


def test_second_ingestion_embeds_nothing(base: KnowledgeBase, folder: Path) -> None:
    first = ingest([folder], base)
    assert (first.added, first.failed) == (3, ())
    assert first.embedded == first.chunks > 0
    second = ingest([folder], base)
    assert (second.unchanged, second.added, second.updated, second.embedded, second.chunks) == (3, 0, 0, 0, 0)


def test_front_matter_becomes_metadata(base: KnowledgeBase, folder: Path) -> None:
    ingest([folder], base)
    document = base.get_document("docs/page.md")
    assert (document.title, document.kind, document.trust) == ("Shared memory", Kind.HARDWARE, Trust.MEASURED)
    assert document.targets == ("nvidia", "cuda:sm_90")
    assert dict(document.valid_for) == {"triton": ">=3.6"}


def test_edit_of_one_section_embeds_only_its_chunks(base: KnowledgeBase, folder: Path) -> None:
    ingest([folder], base)
    before = {chunk.chunk_id for document in base.documents() for chunk in base.chunks_of(document.document_id)}
    (folder / "page.md").write_text(PAGE.replace("227 KB", "228 KB"))
    report = ingest([folder], base)
    assert (report.updated, report.unchanged, report.embedded) == (1, 2, 1)
    after = {chunk.chunk_id for document in base.documents() for chunk in base.chunks_of(document.document_id)}
    assert len(before - after) == len(after - before) == 1


def test_lines_inserted_above_move_the_spans_without_embedding(base: KnowledgeBase, folder: Path) -> None:
    ingest([folder], base)
    (folder / "sub" / "other.md").write_text("\n\n\n# Other\n\nA paragraph about zyzzyva warps.\n")
    report = ingest([folder], base)
    assert (report.updated, report.embedded) == (1, 0)
    assert base.query("zyzzyva").hits[0].source.line_start == 6


def test_moved_file_is_not_embedded_again(base: KnowledgeBase, folder: Path) -> None:
    ingest([folder], base)
    (folder / "page.md").rename(folder / "sub" / "moved.md")
    report = ingest([folder], base)
    assert (report.added, report.removed, report.embedded) == (1, 1, 0)
    assert not base.check().problems


@pytest.mark.parametrize("mode", ["hybrid", "dense", "lexical"])
def test_deleted_file_leaves_no_hit_in_any_leg(base: KnowledgeBase, folder: Path, mode: str) -> None:
    ingest([folder], base)
    (folder / "sub" / "other.md").unlink()
    assert ingest([folder], base).removed == 1
    assert not [hit for hit in base.query("zyzzyva warps", 20, mode=mode).hits if "other" in hit.source.path]


def test_other_directories_are_not_touched(base: KnowledgeBase, folder: Path, tmp_path: Path) -> None:
    ingest([folder], base)
    second = tmp_path / "more"
    second.mkdir()
    (second / "x.md").write_text("# X\n\ntext\n")
    assert ingest([second], base).removed == 0
    assert len(base.documents()) == 4


def test_same_names_in_two_directories_are_two_documents(base: KnowledgeBase, tmp_path: Path) -> None:
    for parent in ("one", "two"):
        (tmp_path / parent / "docs").mkdir(parents=True)
        (tmp_path / parent / "docs" / "a.md").write_text(f"# {parent}\n\n{parent}\n")
        ingest([tmp_path / parent / "docs"], base)
    assert sorted(document.source for document in base.documents()) == ["docs/a.md", "two/docs/a.md"] or len(base.documents()) == 2
    assert ingest([tmp_path / "one" / "docs"], base).unchanged == 1


def test_file_named_itself_after_its_directory_stays_one_document(base: KnowledgeBase, folder: Path) -> None:
    ingest([folder], base)
    report = ingest([folder / "page.md"], base)
    assert (report.unchanged, report.added) == (1, 0)


def test_broken_files_are_reported_and_the_rest_goes_in(base: KnowledgeBase, folder: Path) -> None:
    (folder / "binary.md").write_bytes(b"\x00\x01\x02" * 100)
    (folder / "front.md").write_text("---\na: [1\n---\n# T\n")
    (folder / "kind.md").write_text("---\nkind: poem\n---\n# T\n\nx\n")
    (folder / "broken.py").write_text("def f(:\n")
    report = ingest([folder], base)
    reasons = {Path(failure.path).name: failure.reason for failure in report.failed}
    assert set(reasons) == {"binary.md", "front.md", "kind.md", "broken.py"}
    assert "binary" in reasons["binary.md"]
    assert "not YAML at line" in reasons["front.md"]
    assert "known: guide, constraint" in reasons["kind.md"]
    assert "not valid Python" in reasons["broken.py"]
    assert report.added == 3


def test_file_that_breaks_later_keeps_its_last_good_version(base: KnowledgeBase, folder: Path) -> None:
    ingest([folder], base)
    (folder / "kernel.py").write_text("def f(:\n")
    report = ingest([folder], base)
    assert (len(report.failed), report.removed) == (1, 0)
    assert base.get_document("docs/kernel.py")


def test_missing_path_is_refused_before_anything_is_done(base: KnowledgeBase, folder: Path) -> None:
    with pytest.raises(DocumentError, match="no such file"):
        ingest([folder, folder / "nothing.md"], base)
    assert base.documents() == []


def test_defaults_apply_to_files_without_front_matter(base: KnowledgeBase, folder: Path) -> None:
    ingest([folder], base, defaults={"targets": ["amd"], "kind": "constraint"})
    assert base.get_document("docs/sub/other.md").targets == ("amd",)
    assert base.get_document("docs/page.md").targets == ("nvidia", "cuda:sm_90")
    assert {hit.source.path for hit in base.query("paragraph", filters=Filters(target="rocm:gfx950")).hits} <= {
        "docs/sub/other.md",
        "docs/kernel.py",
    }


def test_every_chunk_is_the_text_at_its_span(base: KnowledgeBase, tmp_path: Path) -> None:
    root = tmp_path / "docs"
    shutil.copytree(Path(__file__).resolve().parents[2] / "docs", root)
    ingest([root], base)
    checked = 0
    for document in base.documents():
        lines = Path(document.path).read_text(encoding="utf-8").split("\n")
        for chunk in base.chunks_of(document.document_id):
            assert chunk.text in "\n".join(lines[chunk.line_start - 1 : chunk.line_end])
            checked += 1
    assert checked > 100


def test_section_that_loses_its_text_leaves_the_vector_index(base: KnowledgeBase, folder: Path) -> None:
    ingest([folder], base)
    (folder / "page.md").write_text(PAGE.replace("227 KB per block.", ""))
    ingest([folder], base)
    assert base.check().problems == ()


CHILD = """
import os, signal, sys
from sqlalchemy import event
from kb.store import KnowledgeBase
from kb.vectors import ChromaStore
from kb_ingest.pipeline import ingest

left = int(sys.argv[3])

def step(*ignored):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)

base = KnowledgeBase.open(sys.argv[1], embedder="hashing")
for name in ("begin", "commit", "before_cursor_execute"):
    event.listen(base.catalogue.engine, name, step)
for name in ("upsert", "delete"):
    original = getattr(ChromaStore, name)
    def wrapped(self, *arguments, original=original):
        step(); original(self, *arguments); step()
    setattr(ChromaStore, name, wrapped)
ingest([sys.argv[2]], base)
print("finished", left)
"""


def run_until_killed(home: Path, folder: Path, step: int) -> bool:
    done = subprocess.run([sys.executable, "-c", CHILD, str(home), str(folder), str(step)], capture_output=True, text=True, check=False)
    assert done.returncode in (0, -9), done.stderr
    return done.returncode == -9


def many_pages(folder: Path, number: int, word: str) -> None:
    for index in range(number):
        (folder / f"page{index}.md").write_text(f"# Page {index}\n\n{word} {index} text.\n\n## Part\n\nMore {word} on {index}.\n")


def assert_recovers(home: Path, folder: Path) -> None:
    with KnowledgeBase.open(home, embedder="hashing") as base:
        report = base.check()
        if report.problems:
            report = base.check(repair=True)
        assert report.problems == ()
        ingest([folder], base)
        assert base.check().problems == ()
        assert len(base.documents()) == len(list(folder.glob("*.md")))
        ids = [chunk.chunk_id for document in base.documents() for chunk in base.chunks_of(document.document_id)]
        assert len(ids) == len(set(ids)) == 2 * len(base.documents())
        assert ingest([folder], base).embedded == 0


@pytest.mark.parametrize("step", [30, 90, 150, 180])
def test_killed_ingestion_leaves_a_base_that_completes(tmp_path: Path, step: int) -> None:
    folder = tmp_path / "pages"
    folder.mkdir()
    many_pages(folder, 6, "first")
    assert run_until_killed(tmp_path / "home", folder, step)
    assert_recovers(tmp_path / "home", folder)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_killed_updates_and_removals_leave_a_base_that_completes(tmp_path: Path, seed: int) -> None:
    folder = tmp_path / "pages"
    folder.mkdir()
    many_pages(folder, 6, "first")
    with KnowledgeBase.open(tmp_path / "home", embedder="hashing") as base:
        ingest([folder], base)
    many_pages(folder, 4, "second")
    (folder / "page5.md").unlink()
    assert run_until_killed(tmp_path / "home", folder, random.Random(seed).randint(5, 165))
    assert_recovers(tmp_path / "home", folder)


WORKER = """
import sys
from kb.store import KnowledgeBase
from kb_ingest.pipeline import ingest
with KnowledgeBase.open(sys.argv[1], embedder="hashing") as base:
    for turn in range(3):
        report = ingest([sys.argv[2]], base)
        assert not report.failed, report
        base.query("text on 3")
        base.remove(sys.argv[3])
"""


def test_two_processes_ingest_query_and_remove_at_once(tmp_path: Path) -> None:
    children = []
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        many_pages(folder, 5, name)
        arguments = [sys.executable, "-c", WORKER, str(tmp_path / "home"), str(folder), f"{name}/page3.md"]
        children.append(subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True, env=os.environ))
    for child in children:
        _, errors = child.communicate(timeout=120)
        assert child.returncode == 0, errors
    with KnowledgeBase.open(tmp_path / "home") as base:
        assert base.check().problems == ()
        assert len(base.documents()) == 8
        assert not [hit for hit in base.query("one 3 text", 20).hits if hit.source.path == "one/page3.md"]
