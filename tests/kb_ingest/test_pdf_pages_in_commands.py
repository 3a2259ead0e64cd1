"""What the commands say about the place of a passage in a PDF: its page."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pdf_writer import PdfWriter
from typer.testing import CliRunner

from kb.cli import app
from kb.places import place_in


def kb(*arguments: str) -> str:
    done = CliRunner().invoke(app, list(arguments))
    assert done.exit_code == 0, (done.output, done.exception)
    return done.stdout


def test_the_pages_of_a_pdf_are_named_wherever_it_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEVOLVE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("KEVOLVE_EMBEDDER", "hashing")
    drawing = PdfWriter()
    for title, words in (("Clock", "The clock runs at 900 MHz."), ("Banks", "Shared memory has 32 banks.")):
        drawing.page().text(60, 80, title, size=18, font="F2").paragraph(60, 120, [words])
    (tmp_path / "chip.pdf").write_bytes(drawing.to_bytes())
    kb("ingest", str(tmp_path / "chip.pdf"))
    (hit,) = json.loads(kb("query", "shared memory banks", "-k", "1", "--json"))["hits"]
    assert hit["pages"] == [2, 2]
    for command in (("query", "shared memory banks"), ("ask", "How many banks does shared memory have?"), ("show", hit["chunk_id"])):
        assert "chip.pdf, page 2" in kb(*command)
    assert place_in("chip.pdf", 1, 9, (3, 4)) == "chip.pdf, pages 3-4"
