from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from pdf_writer import PdfWriter

from kb.links import links_in
from kb.store import KnowledgeBase
from kb.types import Section
from kb_ingest.citations import check_citations
from kb_ingest.pipeline import ingest

MARKDOWN = """# Limits

<!-- not shown -->

| a | b |
|---|---|
| 1 | 2 |

```c
int x;
```

![plot](data:image/png;base64,{payload})

See [the other](other.rst) and `text`.
"""


@pytest.fixture
def base(tmp_path: Path) -> Iterator[KnowledgeBase]:
    with KnowledgeBase.open(tmp_path / "home", embedder="hashing") as opened:
        yield opened


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "docs"
    (root / "sub").mkdir(parents=True)
    (root / "page.md").write_text(MARKDOWN.replace("{payload}", "A" * 500))
    (root / "other.rst").write_text(
        "Other\n=====\n\n.. literalinclude:: sub/part.inc\n.. include:: /../../outside.md\n\nSee :doc:`page`.\n"
    )
    (root / "sub" / "part.inc").write_text("The zyzzyva limit is 42 units for each lane of the chip.\n")
    (tmp_path / "outside.md").write_text("# Outside\n\nqwertyuiop\n")
    (root / "page.html").write_text("<html><body><h1>P</h1>\n<p>Words here</p>\n<script>x()</script>\n<pre>a\n  b</pre></body></html>")
    (root / "manual.pdf").write_bytes(PdfWriter().page().text(72, 300, "A fact of the manual stands here.").to_bytes())
    return root


def test_report_counts_what_was_read_and_lost(base: KnowledgeBase, folder: Path) -> None:
    report = ingest([folder], base, with_details=True)
    by_source = {item.source: item for item in report.documents}
    page = by_source["docs/page.md"]
    assert (page.reader, page.status, page.num_sections, page.num_tables, page.num_code_blocks, page.num_links) == (
        "markdown",
        "added",
        1,
        1,
        1,
        1,
    )
    assert dict(page.lost) == {"images_in_text": 1, "comments": 1}
    assert by_source["docs/manual.pdf"].num_pages == 1
    assert by_source["docs/page.html"].lost["scripts"] == 1
    assert sum(item.num_chunks for item in report.documents) == report.chunks
    details = report.to_details()
    assert details["totals"]["all"]["documents"] == len(report.documents) == details["documents"]["added"]


def test_included_file_is_a_document_and_nothing_outside_is_read(base: KnowledgeBase, folder: Path) -> None:
    ingest([folder], base)
    assert base.query("zyzzyva limit").hits[0].source.path == "docs/sub/part.inc"
    assert not [document for document in base.documents() if "outside" in document.source]
    again = ingest([folder], base)
    assert (again.removed, again.added) == (0, 0)
    (folder / "other.rst").write_text("Other\n=====\n\nNothing.\n")
    assert ingest([folder], base).removed == 1


def test_links_to_files_outside_are_not_included(base: KnowledgeBase, folder: Path, tmp_path: Path) -> None:
    (folder / "sub" / "link.inc").symlink_to(tmp_path / "outside.md")
    (folder / "other.rst").write_text("Other\n=====\n\n.. include:: sub/link.inc\n")
    ingest([folder], base)
    assert not [document for document in base.documents() if "link" in document.source]


def test_citations_of_every_format_are_true_until_the_file_changes(base: KnowledgeBase, folder: Path) -> None:
    ingest([folder], base)
    report = check_citations(base, 200, random.Random(0))
    assert (report.false, report.num_checked) == ((), sum(len(base.chunks_of(document.document_id)) for document in base.documents()))
    (folder / "sub" / "part.inc").write_text("Changed.\n")
    assert [item.source for item in check_citations(base, 200, random.Random(0)).false] == ["docs/sub/part.inc"]


def test_hit_of_a_manual_names_its_page(base: KnowledgeBase, tmp_path: Path) -> None:
    writer = PdfWriter()
    for number in range(5):
        writer.page().paragraph(
            72, 300, [f"On sheet {number} the {word} limit is stated." for word in ("alpha", "beta", f"unique{number}")]
        )
    (tmp_path / "m.pdf").write_bytes(writer.to_bytes())
    ingest([tmp_path / "m.pdf"], base)
    (hit,) = base.query("unique3 limit", 1).hits
    assert hit.pages is not None
    assert hit.pages[0] <= 4 <= hit.pages[1]


@pytest.mark.parametrize(
    ("text", "syntax", "expected"),
    [
        ("[a](b.md) and ![i](x.png)\n\n[c]: d.md\n", "markdown", [("a", "b.md"), ("c", "d.md")]),
        ("```{include} ../x.md\n```\n{doc}`Title <y>` {ref}`z`", "markdown", [("include", "../x.md"), ("Title", "y"), ("z", "z")]),
        (":doc:`a <b>` `web <http://w>`_\n\n.. _t: u\n", "rst", [("a", "b"), ("web", "http://w"), ("t", "u")]),
        (".. toctree::\n   :maxdepth: 1\n\n   intro\n   The rest <rest>\n\nText.\n", "rst", [("intro", "intro"), ("The rest", "rest")]),
    ],
)
def test_cross_references_are_edges(text: str, syntax: str, expected: list[tuple[str, str]]) -> None:
    assert links_in(Section("T", 0, text, 1, 9, syntax=syntax)) == expected


def test_unclosed_links_do_not_take_forever() -> None:
    assert links_in(Section("T", 0, "[a](" * 5000 + "[b](c.md)", 1, 1)) == [("b", "c.md")]
