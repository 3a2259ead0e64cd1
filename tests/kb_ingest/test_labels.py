from __future__ import annotations

from pathlib import Path

from kb.deep.walk import Atlas
from kb.labels import label_key, labels_of
from kb.store import KnowledgeBase
from kb_ingest.pipeline import ingest

PAGES = {
    "a/one.rst": "One\n===\n\nHow it is launched is told in :ref:`Launch Rules`.\n",
    "b/two.rst": "Two\n===\n\nWords.\n\n.. _launch rules:\n\nRules\n-----\n\nEight blocks.\n\n.. _both:\n\nX\n-\n\nx\n",
    "c/three.rst": ".. _both:\n\nThree\n=====\n\nWords.\n",
}


def test_references_by_label_lead_to_the_section_of_another_document(tmp_path: Path) -> None:
    for name, text in PAGES.items():
        (tmp_path / "pages" / name).parent.mkdir(parents=True)
        (tmp_path / "pages" / name).write_text(text, encoding="utf-8")
    with KnowledgeBase.open(tmp_path / "home", embedder="hashing") as base:
        ingest([tmp_path / "pages"], base)
        labels = labels_of(base)
        assert set(labels) == {"launch rules"}, "a label of two documents means neither"
        one = next(stored for stored in base.documents() if stored.source.endswith("one.rst"))
        chunk_ids = [chunk.chunk_id for chunk in base.chunks_of(one.document_id)]
        assert Atlas(base).linked(chunk_ids, "launch rules") == [labels[label_key("Launch  Rules")].source]
