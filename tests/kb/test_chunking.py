from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from kb.chunking import chunk_document
from kb.types import Chunk, Document, Kind, Section


def count(texts: Sequence[str]) -> list[int]:
    return [len(text.split()) for text in texts]


def chunks_of(text: str, syntax: str = "markdown", max_tokens: int = 60) -> list[Chunk]:
    lines = text.count("\n") + 1
    root = Section("T", 0, text, 1, lines, text_line=1, syntax=syntax)
    return [leaf.chunk for leaf in chunk_document(Document("s.md", "T", Kind.GUIDE, root, "h"), "d", count, max_tokens)]


def test_short_section_is_one_chunk() -> None:
    (chunk,) = chunks_of("one\n\ntwo\n\n```\ncode\n```")
    assert (chunk.line_start, chunk.line_end) == (1, 7)


def test_parts_of_a_long_table_carry_its_header() -> None:
    rows = [f"| {number} | value number {number} of the table |" for number in range(40)]
    parts = chunks_of("\n".join(["| n | text |", "|---|---|", *rows]))
    assert len(parts) > 2
    assert parts[0].context == ""
    assert all(part.context == "| n | text |\n|---|---|" and part.block == "table" for part in parts[1:])
    assert "\n".join(part.text for part in parts).split("\n")[2:] == rows


def test_parts_of_long_code_carry_the_signature_around_them() -> None:
    body = [f"    value_{number} = load(pointer + {number})" for number in range(60)]
    parts = chunks_of("\n".join(["```python kernel", "@triton.jit", "def kernel(pointer):", *body, "```"]))
    assert len(parts) > 2
    assert all("def kernel(pointer):" in part.context for part in parts[1:])
    assert all(part.block == "code" for part in parts)


def test_sentence_that_leads_in_stays_with_its_table() -> None:
    filler = " ".join(["word"] * 50)
    parts = chunks_of(f"{filler}\n\nThe limits are:\n\n| a | b |\n|---|---|\n| 1 | 2 |")
    assert parts[-1].text.startswith("The limits are:")


def test_comment_in_a_fence_is_not_cut_from_its_code() -> None:
    (chunk,) = chunks_of("```sh\n# not a heading\nmake\n```")
    assert chunk.block == "code"


def test_comments_of_a_page_are_not_indexed() -> None:
    (chunk,) = chunks_of("<!-- Licensed to everybody\nunder terms -->\n\nText.")
    assert chunk.text == "Text."
    (chunk,) = chunks_of("..  Licensed to everybody\n    under terms\n\n.. note:: Text.", "rst")
    assert chunk.text == ".. note:: Text."


def test_one_endless_line_is_cut_within_the_budget() -> None:
    line = " ".join(f"w{number}" for number in range(1000))
    parts = chunks_of(line, "plain")
    assert all(len(part.text.split()) <= 60 for part in parts)
    assert " ".join(part.text for part in parts).split() == line.split()
    assert all(part.text in line for part in parts)


def test_chunk_ids_survive_edits_elsewhere() -> None:
    def leaves(first: str) -> list[Chunk]:
        children = (Section("A", 1, first, 1, 2), Section("B", 1, "stays", 3, 4))
        document = Document("s.md", "T", Kind.GUIDE, Section("T", 0, "", 1, 4, children), "h")
        return [leaf.chunk for leaf in chunk_document(document, "d", count, 60)]

    assert leaves("one")[1].chunk_id == leaves("two")[1].chunk_id
    assert leaves("one")[0].chunk_id != leaves("two")[0].chunk_id


def test_equal_sections_get_different_ids() -> None:
    children = (Section("A", 1, "same", 1, 2), Section("A", 1, "same", 3, 4))
    document = Document("s.md", "T", Kind.GUIDE, Section("T", 0, "", 1, 4, children), "h")
    first, second = [leaf.chunk for leaf in chunk_document(document, "d", count, 60)]
    assert first.chunk_id != second.chunk_id


def test_payload_of_embedded_images_is_dropped() -> None:
    (chunk,) = chunks_of("See ![plot](data:image/png;base64," + "A" * 5000 + ") here")
    assert chunk.text == "See ![plot]() here"


LINES = st.lists(
    st.sampled_from(["", "word " * 7, "| a | b |", "|---|---|", "```", "- item text", "def f(x):", "    x = 1", "end:", "x" * 300]),
    max_size=60,
)


@settings(max_examples=150, deadline=None)
@given(LINES, st.sampled_from(["markdown", "code", "plain"]))
def test_chunks_cover_every_line_once_and_match_their_spans(lines: list[str], syntax: str) -> None:
    parts = chunks_of("\n".join(lines), syntax)
    covered: list[int] = []
    for part in parts:
        span = lines[part.line_start - 1 : part.line_end]
        assert part.text in "\n".join(span)
        covered += range(part.line_start, part.line_end + 1)
    wanted = {number for number, line in enumerate(lines, start=1) if line.strip()}
    assert wanted <= set(covered)
    whole_lines = [
        number
        for part in parts
        if part.text == "\n".join(lines[part.line_start - 1 : part.line_end])
        for number in range(part.line_start, part.line_end + 1)
    ]
    assert len(whole_lines) == len(set(whole_lines))


def test_signature_over_several_lines_is_repeated_whole() -> None:
    body = [f"  total += input[{number}] * weight[{number}];" for number in range(60)]
    parts = chunks_of(
        "\n".join(["template <typename T>", "__global__ void rows(const T* input,", "                     int count) {", *body, "}"]),
        "code",
    )
    assert len(parts) > 2
    assert all("__global__ void rows(const T* input, int count) {" in part.context for part in parts[1:])


def test_row_that_is_too_wide_is_cut_between_cells_with_their_columns() -> None:
    names = [f"column{number}" for number in range(30)]
    row = ["chip", *[f"value {number} of chip" for number in range(1, 30)]]
    lines = [f"| {' | '.join(names)} |", "|" + "---|" * 30, f"| {' | '.join(row)} |"]
    parts = chunks_of("\n".join(lines), max_tokens=60)
    (last,) = [part for part in parts if "value 29 of chip" in part.text]
    assert "column29" in last.context
    assert "row: chip" in last.context
    assert all(part.text in "\n".join(lines[part.line_start - 1 : part.line_end]) for part in parts)
    assert all(any(cell in part.text for part in parts) for cell in row)


def test_list_table_repeats_its_first_row() -> None:
    rows = [line for number in range(30) for line in (f"   * - name{number}", f"     - value number {number} of it")]
    text = "\n".join([".. list-table:: Limits", "   :header-rows: 1", "", "   * - Name", "     - Value", *rows])
    parts = chunks_of(text, "rst")
    assert len(parts) > 2
    assert all("* - Name\n     - Value" in part.context for part in parts[1:])


def test_html_table_in_markdown_repeats_its_head() -> None:
    rows = [f"<tr><td>name{number}</td><td>value {number} of it</td></tr>" for number in range(30)]
    parts = chunks_of("\n".join(["<table>", "<thead><tr><th>Name</th><th>Value</th></tr></thead>", *rows, "</table>"]))
    assert len(parts) > 2
    assert all("<th>Name</th>" in part.context and part.block == "table" for part in parts[1:])


def test_licence_is_a_chunk_of_its_own() -> None:
    licence = "Licensed under the Apache License, Version 2.0. Limitations under the License apply."
    assert [part.text for part in chunks_of(f"One.\n\n{licence}\n\nTwo.")] == ["One.", licence, "Two."]
    header = "// SPDX-License-Identifier: MIT\n// All rights reserved."
    assert [part.text for part in chunks_of(f"{header}\n\nint x;", "code")] == [header, "int x;"]


def test_admonition_in_a_fence_is_text_and_code_in_one_is_code() -> None:
    assert [part.block for part in chunks_of("```{note}\nMind the banks.\n```")] == ["text"]
    assert [part.block for part in chunks_of("```{code-block} c\nint x;\n```")] == ["code"]


def test_small_and_large_sections_of_one_page_keep_to_the_budget() -> None:
    children = (Section("Small", 1, "Five words are in here.", 1, 2), Section("Large", 1, "\n\n".join(["word " * 40] * 300), 3, 700))
    document = Document("s.md", "T", Kind.GUIDE, Section("T", 0, "", 1, 700, children), "h")
    parts = [leaf.chunk for leaf in chunk_document(document, "d", count, 100)]
    assert parts[0].text == "Five words are in here."
    assert len(parts) > 100
    assert all(len(part.text.split()) <= 100 for part in parts)
