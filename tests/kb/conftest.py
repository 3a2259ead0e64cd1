from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kb.store import KnowledgeBase
from kb.types import Document, Kind, Section, Trust

MakeDocument = Callable[..., Document]


def build_document(
    source: str,
    sections: dict[str, str],
    targets: tuple[str, ...] = ("generic",),
    kind: Kind = Kind.GUIDE,
    trust: Trust = Trust.DOCUMENTED,
    valid_for: dict[str, str] | None = None,
) -> Document:
    line, children = 2, []
    for title, text in sections.items():
        height = text.count("\n") + 1
        children.append(Section(title, 2, text, line, line + height))
        line += height + 1
    root = Section(source, 0, "", 1, line, tuple(children), text_line=1)
    content_hash = hashlib.sha256(repr((sections, targets, kind, trust)).encode()).hexdigest()
    return Document(source, f"Title of {source}", kind, root, content_hash, targets, trust, valid_for or {})


@pytest.fixture(scope="session")
def make_document() -> MakeDocument:
    return build_document


@pytest.fixture
def base(tmp_path: Path) -> Iterator[KnowledgeBase]:
    with KnowledgeBase.open(tmp_path / "home", embedder="hashing") as opened:
        yield opened


@pytest.fixture
def filled(base: KnowledgeBase) -> KnowledgeBase:
    documents = [
        build_document("nvidia.md", {"Banks": "Shared memory has 32 banks of 4 bytes.", "Warps": "A warp has 32 lanes."}, ("nvidia",)),
        build_document(
            "hopper.md", {"Limits": "Shared memory per block is 227 KB on this chip."}, ("cuda:sm_90",), Kind.HARDWARE, Trust.MEASURED
        ),
        build_document("ampere.md", {"Limits": "Shared memory per block is 163 KB on this chip."}, ("cuda:sm_80",), Kind.HARDWARE),
        build_document("amd.md", {"LDS": "Shared memory is called LDS and has 64 KB."}, ("amd",)),
        build_document("any.md", {"Fusion": "Fuse pointwise work into the reduction to save memory traffic."}),
    ]
    for document in documents:
        assert base.add_document(document) == "added"
    return base
