from __future__ import annotations

import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pdf_writer import PdfWriter

from kb.errors import DocumentError
from kb.types import Document, Section
from kb_ingest.pdf import worker
from kb_ingest.pdf.layout import Line, page_lines
from kb_ingest.pdf.outline import PageLines, assemble
from kb_ingest.pdf.pages import Page, Rule, Run
from kb_ingest.readers.base import RawFile
from kb_ingest.readers.pdf import PdfReader
from kb_ingest.readers.registry import reader_for

PROSE = "The warp scheduler issues one instruction each cycle to the lanes"


def read(data: bytes) -> Document:
    return PdfReader().read(RawFile("manual.pdf", data))


def titles(section: Section) -> list[str]:
    return [name for child in section.children for name in (child.title, *titles(child))]


def whole_text(section: Section) -> str:
    return "\n".join([section.text, *(whole_text(child) for child in section.children)])


def manual() -> PdfWriter:
    writer = PdfWriter(title="Chip manual")
    for number in range(1, 5):
        writer.page().text(72, 40, "Chip manual, revision 7", 8).text(300, 770, f"{number}", 8)
        writer.text(72, 90, f"{number} Chapter about part {number}", 18, "F2")
        writer.paragraph(72, 120, [f"{PROSE} {number}.{line}" for line in range(20)])
    return writer


def test_pages_headings_and_running_titles() -> None:
    document = read(manual().to_bytes())
    assert document.title == "Chip manual"
    assert titles(document.root) == [f"{number} Chapter about part {number}" for number in range(1, 5)]
    assert "revision 7" not in whole_text(document.root)
    assert document.lost["running_titles"] == 8
    starts = document.front_matter["page_lines"]
    assert len(starts) == 4
    third = document.root.children[2]
    assert starts[2] <= third.line_start < starts[3]


def test_outline_of_the_file_decides_the_headings() -> None:
    writer = manual()
    writer.outline = [("Chapter about part 1", 0), ("Not on the page", 1), ("Chapter about part 4", 3)]
    assert titles(read(writer.to_bytes()).root) == ["Chapter about part 1", "Not on the page", "Chapter about part 4"]


def test_two_columns_are_read_one_after_the_other() -> None:
    writer = PdfWriter().page().text(72, 60, "A title over both columns of this page", 18, "F2")
    left = [f"left line {number} with enough words to fill it" for number in range(12)]
    right = [f"right line {number} with enough words to fill it" for number in range(12)]
    for number in range(12):  # written row by row, as some printers do
        writer.text(60, 100 + 12 * number, left[number]).text(320, 100 + 12 * number, right[number])
    text = whole_text(read(writer.to_bytes()).root)
    assert [line for line in text.split("\n") if line] == [*left, *right]


def test_ruled_table_becomes_markdown() -> None:
    writer = PdfWriter().page().text(72, 60, "Limits of the chip are these:")
    rows = [("Name", "Value", "Unit"), ("Shared memory", "227", "KB"), ("Registers", "255", "per thread")]
    for number, row in enumerate(rows):
        for column, cell in enumerate(row):
            writer.text(75 + 150 * column, 112 + 20 * number, cell)
    for number in range(4):
        writer.rule(72, 98 + 20 * number, 522, 98 + 20 * number)
        writer.rule(72 + 150 * number, 98, 72 + 150 * number, 158)
    text = whole_text(read(writer.to_bytes()).root)
    assert "| Name | Value | Unit |\n|---|---|---|\n| Shared memory | 227 | KB |\n| Registers | 255 | per thread |" in text


def test_table_without_vertical_rules_and_table_without_rules() -> None:
    for with_rules in (True, False):
        writer = PdfWriter().page().text(72, 60, "Table 1 follows.")
        for number, row in enumerate([("Chip", "Banks", "Size"), ("A1", "32", "164"), ("B2", "32", "228"), ("C3", "64", "64")]):
            for column, cell in enumerate(row):
                writer.text(80 + 120 * column, 112 + 14 * number, cell)
        if with_rules:
            for y in (98, 117, 160):
                writer.rule(72, y, 400, y)
        assert "| B2 | 32 | 228 |" in whole_text(read(writer.to_bytes()).root)


def test_code_keeps_its_indentation_in_a_fence() -> None:
    writer = PdfWriter().page().text(72, 60, "An example of a loop in the language:")
    writer.paragraph(72, 90, ["for (int i = 0; i < n; ++i) {"], font="F3").text(72 + 24, 102, "x[i] = 0;", font="F3").text(
        72, 114, "}", font="F3"
    )
    assert "```\nfor (int i = 0; i < n; ++i) {\n    x[i] = 0;\n}\n```" in whole_text(read(writer.to_bytes()).root)


def test_word_broken_at_a_line_end_is_whole() -> None:
    lines = ["This paragraph explains the occu-", "pancy of a multiprocessor and goes", "on for a while."]
    assert "the occupancy\nof a multiprocessor" in whole_text(read(PdfWriter().page().paragraph(72, 80, lines).to_bytes()).root)


def test_table_goes_on_over_pages_with_one_header() -> None:
    def page(number: int, rows: list[str]) -> PageLines:
        table = ("| a | b |", "|---|---|", *rows)
        return PageLines(number, 800.0, (Line("", 10, 100, 400, 300, 0.0, False, False, table),))

    text = assemble([page(1, ["| 1 | 2 |"]), page(2, ["| 3 | 4 |"])], [], "T")
    assert [line for line in text.lines if line] == ["| a | b |", "|---|---|", "| 1 | 2 |", "| 3 | 4 |"]


def test_thousand_pages_are_read_page_by_page() -> None:
    writer = PdfWriter(title="Thousand")
    for number in range(1000):
        writer.page().text(72, 300, f"Fact {number} of the manual is here.")
    document = read(writer.to_bytes())
    assert len(document.front_matter["page_lines"]) == 1000
    assert "Fact 999 of" in whole_text(document.root)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "does not begin like a PDF"),
        (b"%PDF-1.7\n" + b"\0" * 2000, "is broken"),
        (manual().to_bytes()[:300], "is broken"),
        (
            manual().to_bytes(f"/Encrypt << /Filter /Standard /V 1 /R 2 /O <{'41' * 32}> /U <{'42' * 32}> /P -4 >> /ID [<00><00>]"),
            "is encrypted",
        ),
        (PdfWriter().page().rule(1, 1, 50, 50).to_bytes(), "has no text"),
    ],
)
def test_what_cannot_be_read_is_refused_with_the_reason(data: bytes, reason: str) -> None:
    with pytest.raises(DocumentError, match=reason):
        read(data)


def test_stream_that_unpacks_to_gigabytes_costs_its_page_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "PAGE_SECONDS", 20.0)
    packed = zlib.compressobj(9)
    bomb = b"".join(packed.compress(b"0 0 m " * 4_000_000) for _ in range(4)) + packed.flush()
    with pytest.raises(DocumentError, match=r"is broken|has no text"):
        read(PdfWriter().page().to_bytes(stream=bomb))


def test_page_that_kills_the_child_is_lost_and_the_others_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = list(worker._messages(manual().to_bytes(), 1))

    def messages(data: bytes, first: int) -> object:
        yield whole[0]
        for message in whole[1:]:
            if message["number"] >= first:
                if message["number"] == 2:
                    return  # as if killed there
                yield message

    monkeypatch.setattr(worker, "_messages", messages)
    document = read(manual().to_bytes())
    assert document.lost["pages_unreadable"] == 1
    assert titles(document.root) == [f"{number} Chapter about part {number}" for number in (1, 3, 4)]


def test_content_decides_what_a_file_is() -> None:
    assert isinstance(reader_for(RawFile("manual.txt", manual().to_bytes())), PdfReader)
    assert not isinstance(reader_for(RawFile("error.pdf", b"<!DOCTYPE html><html><body>404</body></html>")), PdfReader)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.builds(
            lambda x, y, w, size, text, mono: Run(text, x, y, x + w, y + size, size, False, mono),
            st.floats(0, 600),
            st.floats(0, 780),
            st.floats(0, 400),
            st.sampled_from([6.0, 10.0, 24.0]),
            st.sampled_from(["a", "word", "| x |", "```", "several words of text here", "1.2 Title", "-", "•"]),
            st.booleans(),
        ),
        max_size=40,
    ),
    st.lists(
        st.builds(lambda x, y, w, h: Rule(x, y, x + w, y + h), st.floats(0, 600), st.floats(0, 780), st.floats(0, 400), st.floats(0, 300)),
        max_size=12,
    ),
)
def test_no_run_of_a_page_is_lost(runs: list[Run], rules: list[Rule]) -> None:
    page = Page(1, 612.0, 792.0, tuple(runs), tuple(rules), 0)
    lines = page_lines(page)
    text = assemble([PageLines(1, 792.0, tuple(lines))], [], "T")
    written = "".join("".join(text.lines).split()).replace("\\|", "|")
    letters = sum(len("".join(run.text.split())) for run in runs if run.text.isalpha())
    assert sum(map(str.isalpha, written)) >= letters
