from __future__ import annotations

import hashlib

from kb.calibration import calibrate, calibrated
from kb.retrieval import DEFAULT, MODES
from kb.store import Incoming, KnowledgeBase
from kb.types import Document, Kind, Section

NOUNS = ("warp", "lane", "bank", "tile", "queue", "fence", "cache", "wave", "block", "grid", "cluster", "barrier")


def fill(base: KnowledgeBase, number: int) -> None:
    incoming = []
    for index in range(number):
        first, second, third = (NOUNS[(index // step) % 12] for step in (1, 12, 144))
        body = f"The {first} holds {index} items of every {second}, counted from zero, and hands the {third} on when it is done with all of them."
        title = f"Holding {first} items of {second} number{index}"
        root = Section(title, 0, body, 1, 2, text_line=1)
        incoming.append(Incoming(Document(f"{index}.md", title, Kind.GUIDE, root, hashlib.sha256(title.encode()).hexdigest())))
    base.add_documents(incoming)


def weight_of(base: KnowledgeBase) -> float:
    with base.catalogue.read() as connection:
        return calibrated(connection, DEFAULT).dense_weight


def test_small_bases_keep_the_default_weights(filled: KnowledgeBase) -> None:
    assert calibrate(filled) is None
    assert weight_of(filled) == DEFAULT.dense_weight


def test_weights_are_estimated_once_kept_and_the_same_again(base: KnowledgeBase) -> None:
    fill(base, 60)
    first = calibrate(base, force=True)
    assert first is not None and 0.3 <= first <= 0.9
    assert weight_of(base) == first
    assert calibrate(base, force=True) == first
    with base.catalogue.read() as connection:
        fusion = calibrated(connection, DEFAULT)
        assert fusion.dense_weight + fusion.lexical_weight == 1.0
        assert calibrated(connection, MODES["flat"]) == MODES["flat"]


def test_weights_of_another_embedder_do_not_hold(base: KnowledgeBase) -> None:
    fill(base, 60)
    calibrate(base, force=True)
    with base.catalogue.write() as connection:
        base.catalogue.set_meta(connection, "embedder_hash", "another")
    assert weight_of(base) == DEFAULT.dense_weight
