"""A base in one file: written whole, read with suspicion, taken in whole."""

from __future__ import annotations

import dataclasses
import json
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kb import bundle
from kb.embedders.hashing import HashingEmbedder
from kb.errors import DocumentError, EmbedderMismatch, KnowledgeError
from kb.store import Incoming, KnowledgeBase
from kb.types import Document, Kind, Lesson, Trust, Winner

LESSON = Lesson("Fusing helps.", {"target": "cpu"}, 1.2, 1.1, 1.3, ("candidate-1",), "cpu", "problem-1")
WINNER = Winner("problem-1", "hash", "sig", "cpu", "candidate-1", "print(1)\n", "triton", {}, {"speedup": {}}, "run-1")


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory, make_document: Callable[..., Document]) -> Iterator[KnowledgeBase]:
    """A base with five documents, one of them in its second version, a lesson and a winner."""
    with KnowledgeBase.open(tmp_path_factory.mktemp("origin"), embedder="hashing") as base:
        documents = [
            make_document("nvidia.md", {"Banks": "Shared memory has 32 banks of 4 bytes.", "Warps": "A warp has 32 lanes."}, ("nvidia",)),
            make_document("hopper.md", {"Limits": "Shared memory per block is 227 KB."}, ("cuda:sm_90",), Kind.HARDWARE, Trust.MEASURED),
            make_document("amd.md", {"LDS": "Shared memory is called LDS and has 64 KB."}, ("amd",), valid_for={"triton": ">=3.6"}),
            make_document("any.md", {"Fusion": "Fuse pointwise work into the reduction."}),
        ]
        base.add_documents([Incoming(document) for document in documents])
        base.add_documents([Incoming(make_document("any.md", {"Fusion": "Fuse pointwise work to save traffic."}))])
        base.add_lesson(LESSON)
        base.add_winner(WINNER)
        yield base


@pytest.fixture(scope="module")
def archive(origin: KnowledgeBase, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("archive") / "all.kb"
    origin.export(path)
    return path


@pytest.fixture
def exported(archive: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(archive, tmp_path / "all.kb"))


def contents(base: KnowledgeBase) -> list[tuple[object, ...]]:
    found: list[tuple[object, ...]] = []
    for stored in base.documents():
        ids = [chunk.chunk_id for chunk in base.chunks_of(stored.document_id)]
        found.append((base.get_document(stored.document_id), ids, stored.version, base.history(stored.source)))
    return found


def test_import_into_a_new_base_gives_the_same_base_without_embedding(exported: Path, origin: KnowledgeBase, tmp_path: Path) -> None:
    with KnowledgeBase.open(tmp_path / "new", embedder="hashing") as base:
        report = base.import_(exported)
        assert (report.added, report.embedded, report.winners, report.lessons) == (6, 0, 1, 1)
        assert contents(base) == contents(origin)
        assert base.lessons("cpu", now=0.0) == origin.lessons("cpu", now=0.0)
        assert base.winners("cpu") == origin.winners("cpu")
        here, there = (one.query("shared memory per block").hits for one in (base, origin))
        assert {hit.chunk_id for hit in here} == {
            hit.chunk_id for hit in there
        }  # equal scores may change places: chunks were numbered anew
        assert [change.change for change in base.diff("any.md")] == ["edited"]
        assert base.check().problems == ()
        again = base.import_(exported)
        assert (again.added, again.updated, again.unchanged, again.winners, again.lessons) == (0, 0, 6, 0, 0)


def test_import_without_vectors_embeds_here(origin: KnowledgeBase, tmp_path: Path) -> None:
    report = origin.export(tmp_path / "small.kb", with_vectors=False)
    assert report.vectors == 0
    with KnowledgeBase.open(tmp_path / "new", embedder="hashing:64") as base:
        taken = base.import_(tmp_path / "small.kb")
        assert taken.embedded == taken.chunks == origin.stats()["chunks"]
        assert base.check().problems == ()


def test_vectors_of_another_embedder_are_refused_or_made_anew(exported: Path, tmp_path: Path) -> None:
    with KnowledgeBase.open(tmp_path / "new", embedder="hashing:64") as base:
        with pytest.raises(EmbedderMismatch, match=r"dimension '256' there, '64' here.*--re-embed"):
            base.import_(exported)
        assert base.documents() == []
        assert base.import_(exported, re_embed=True).added == 6
        assert base.check().problems == ()


def test_import_updates_documents_of_the_same_source_and_keeps_what_was_there(
    exported: Path, make_document: Callable[..., Document], tmp_path: Path
) -> None:
    with KnowledgeBase.open(tmp_path / "new", embedder="hashing") as base:
        base.add_document(make_document("any.md", {"Fusion": "My own words."}))
        base.add_document(make_document("mine.md", {"Own": "Stays here."}))
        report = base.import_(exported)
        assert (report.added, report.updated) == (5, 1)
        assert base.get_document("mine.md")
        assert base.diff("any.md")[0].before == "My own words."


def test_existing_file_is_not_overwritten_unasked(exported: Path, origin: KnowledgeBase) -> None:
    before = exported.read_bytes()
    with pytest.raises(DocumentError, match="--overwrite"):
        origin.export(exported)
    assert exported.read_bytes() == before
    origin.export(exported, overwrite=True)
    assert exported.read_bytes() == before
    assert [path.name for path in exported.parent.glob("all.kb*")] == ["all.kb"]


Rewrite = Callable[[dict[str, bytes], dict[str, Any]], None]


def rewritten(path: Path, change: Rewrite, *, honest: bool = True, extra: tuple[str, bytes] | None = None) -> Path:
    """Copy an export with changed members; with a manifest that fits them if `honest`."""
    import hashlib

    with zipfile.ZipFile(path) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    manifest = json.loads(members.pop(bundle.MANIFEST))
    change(members, manifest)
    if honest:
        for name in list(manifest["members"]):
            if name in members:
                manifest["members"][name] = {"bytes": len(members[name]), "sha256": hashlib.sha256(members[name]).hexdigest()}
    changed = path.with_name("changed.kb")
    with zipfile.ZipFile(changed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in [*members.items(), *([extra] if extra else [])]:
            archive.writestr(name, data)
        archive.writestr(bundle.MANIFEST, json.dumps(manifest))
    return changed


def newer(members: dict[str, bytes], manifest: dict[str, Any]) -> None:
    manifest["version"] = 99


def other_format(members: dict[str, bytes], manifest: dict[str, Any]) -> None:
    manifest["format"] = "tar"


def damaged(members: dict[str, bytes], manifest: dict[str, Any]) -> None:
    members["documents.jsonl"] = members["documents.jsonl"].replace(b"227", b"228")


def no_json(members: dict[str, bytes], manifest: dict[str, Any]) -> None:
    members["documents.jsonl"] += b"{oops\n"


def no_document(members: dict[str, bytes], manifest: dict[str, Any]) -> None:
    members["documents.jsonl"] += b'{"source": "x.md"}\n'


def deep_document(members: dict[str, bytes], manifest: dict[str, Any]) -> None:
    members["documents.jsonl"] += b'{"children":' * 50_000 + b"\n"


def bad_lesson(members: dict[str, bytes], manifest: dict[str, Any]) -> None:
    line = json.loads(next(item for item in members["experience.jsonl"].split(b"\n") if b'"lessons"' in item))
    line.update(lesson_id="another", record={**line["record"], "evidence": []})
    members["experience.jsonl"] += json.dumps(line).encode() + b"\n"


def cut_vectors(members: dict[str, bytes], manifest: dict[str, Any]) -> None:
    members["vectors.bin"] = members["vectors.bin"][:-5]


def false_vectors(members: dict[str, bytes], manifest: dict[str, Any]) -> None:
    raw, length = members["vectors.bin"], 32 + 4 * 256
    vector = np.eye(256, dtype="<f4")[0].tobytes()
    members["vectors.bin"] = b"".join(raw[begin : begin + 32] + vector for begin in range(0, len(raw), length))


def longer(members: dict[str, bytes], manifest: dict[str, Any]) -> None:
    manifest["members"]["status.jsonl"]["bytes"] = 10**12


@pytest.mark.parametrize(
    ("change", "honest", "message"),
    [
        (newer, True, "format version 99, this program knows 1; update the program"),
        (other_format, True, "cannot be used"),
        (damaged, False, "damaged or changed|longer than"),
        (no_json, True, "line 7 of documents.jsonl is no JSON"),
        (no_document, True, "cannot be used"),
        (deep_document, True, "no JSON|cannot be used"),
        (bad_lesson, True, "winner or lesson in it cannot be used"),
        (cut_vectors, True, "ends within a vector"),
        (false_vectors, True, "not those of its texts"),
        (longer, False, "more than the limit"),
    ],
)
def test_file_that_is_wrong_is_refused_and_nothing_changes(
    exported: Path, tmp_path: Path, change: Rewrite, honest: bool, message: str
) -> None:
    changed = rewritten(exported, change, honest=honest)
    with KnowledgeBase.open(tmp_path / "new", embedder="hashing") as base:
        with pytest.raises(DocumentError, match=message):
            base.import_(changed)
        assert base.documents() == []
        assert base.lessons("cpu") == ()
        assert base.check().problems == ()


@pytest.mark.parametrize("name", ["../../outside.txt", "/etc/outside.txt", "extra.jsonl", "documents.jsonl"])
def test_members_that_no_export_has_are_refused_and_not_unpacked(exported: Path, base: KnowledgeBase, tmp_path: Path, name: str) -> None:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zipfile warns of the double name while the file is made
        changed = rewritten(exported, lambda members, manifest: None, extra=(name, b"{}\n"))
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(DocumentError, match=r"which no export has|holds a member twice"):
        base.import_(changed)
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_bomb_is_refused_before_it_unpacks(exported: Path, base: KnowledgeBase, monkeypatch: pytest.MonkeyPatch) -> None:
    def inflate(members: dict[str, bytes], manifest: dict[str, Any]) -> None:
        members["status.jsonl"] = b" " * (20 * 2**20)

    with pytest.raises(DocumentError, match="refused as a bomb"):
        base.import_(rewritten(exported, inflate))


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04 but no more", b"just text" * 100])
def test_other_files_are_no_exports(base: KnowledgeBase, tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "other.kb"
    path.write_bytes(data)
    with pytest.raises(DocumentError, match="no export"):
        base.import_(path)
    with pytest.raises(DocumentError, match="no such file"):
        base.import_(tmp_path / "missing.kb")


def test_truncated_file_is_refused(exported: Path, base: KnowledgeBase) -> None:
    exported.write_bytes(exported.read_bytes()[:-200])
    with pytest.raises(DocumentError, match="no export"):
        base.import_(exported)


def test_embedder_changed_during_an_import_undoes_it(exported: Path, origin: KnowledgeBase, tmp_path: Path) -> None:
    with KnowledgeBase.open(tmp_path / "new", embedder="hashing") as base:
        base.add_document(dataclasses.replace(origin.get_document("any.md"), source="own.md", trust=Trust.DERIVED))
        other = KnowledgeBase.open(tmp_path / "new")

        class Changing(HashingEmbedder):
            def count_tokens(self, texts: Any) -> list[int]:
                if other.embedder().identity.dimension == 256:
                    other.change_embedder("hashing:64")
                return super().count_tokens(texts)

        base._embedder = Changing()
        with pytest.raises(KnowledgeError, match=r"changed meanwhile|another embedder"):
            base.import_(exported)
        assert [stored.source for stored in other.documents()] == ["own.md"]
        other.close()
