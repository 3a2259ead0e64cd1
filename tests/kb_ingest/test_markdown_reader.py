from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kb.errors import DocumentError
from kb.types import Document, Section
from kb_ingest.readers.base import RawFile, decode, split_front_matter
from kb_ingest.readers.markdown import MarkdownReader, plain_title
from kb_ingest.readers.registry import reader_for


def read(text: str) -> Document:
    return MarkdownReader().read(RawFile("folder/page.md", text.encode()))


def titles(section: Section) -> list[str]:
    return [name for child in section.children for name in (child.title, *titles(child))]


def test_comments_in_code_fences_are_not_headings() -> None:
    document = read("# T\n\n```sh\n# comment\n```\n\n~~~\n## also\n~~~\n\n    # indented\n\n## Real\n\nx\n")
    assert titles(document.root) == ["T", "Real"]


def test_setext_headings_and_repeated_headings_are_kept() -> None:
    document = read("Top\n===\n\nUsage\n-----\n\na\n\nUsage\n-----\n\nb\n")
    assert titles(document.root) == ["Top", "Usage", "Usage"]
    assert [child.text.strip() for child in document.root.children[0].children] == ["a", "b"]


def test_skipped_levels_nest_below_the_nearest_higher_heading() -> None:
    document = read("# A\n\n### C\n\nx\n\n## B\n\ny\n")
    assert [child.title for child in document.root.children[0].children] == ["C", "B"]


def test_title_comes_from_front_matter_then_heading_then_name() -> None:
    assert read("---\ntitle: F\n---\n# H\n").title == "F"
    assert read("intro\n\n# H\n").title == "H"
    assert read("no heading").title == "page.md"


def test_lines_count_the_front_matter() -> None:
    section = read("---\ntitle: F\n---\n# H\n\ntext\n").root.children[0]
    assert (section.line_start, section.text_line) == (4, 5)


@pytest.mark.parametrize(
    ("markup", "title"),
    [
        ("**Bold** and `code`", "Bold and code"),
        ("[link](http://x) text", "link text"),
        ("Title {#anchor}", "Title"),
        ('<a id="x"></a>Title', "Title"),
        ("tl.dot_scaled and __init__", "tl.dot_scaled and init"),
        ("snake_case_name", "snake_case_name"),
    ],
)
def test_titles_lose_their_markup(markup: str, title: str) -> None:
    assert plain_title(markup) == title


@pytest.mark.parametrize("data", [b"text\r\nline\r", "\ufefftext\nline\n".encode(), "text\nline\n".encode("utf-16")])
def test_encodings_and_line_ends_are_normalised(data: bytes) -> None:
    assert decode(RawFile("a.txt", data)) == "text\nline\n"


def test_latin_text_is_read() -> None:
    assert decode(RawFile("a.txt", "Größe".encode("cp1252"))) == "Größe"


def test_paragraph_between_two_rules_is_not_front_matter() -> None:
    assert split_front_matter("a.md", "---\njust words\n---\nmore") == ({}, 0)


@pytest.mark.parametrize("front", ["kind: [a]", "targets: 5", "targets: ['a b']", "valid_for: 3.6", "trust: rumour"])
def test_bad_metadata_is_named(front: str) -> None:
    with pytest.raises(DocumentError, match=r"front matter|not a target"):
        read(f"---\n{front}\n---\n# T\n")


def test_unknown_binary_format_is_refused_with_the_known_ones() -> None:
    with pytest.raises(DocumentError, match=r"\.md"):
        reader_for(RawFile("a.exe", b"MZ\0\0"))


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet=st.sampled_from("#-=`~> \n\tab|*_[]()<>!:.1"), max_size=300))
def test_sections_hold_every_line_of_any_text(text: str) -> None:
    document = read(text)
    lines = decode(RawFile("a", text.encode())).split("\n")

    def check(section: Section) -> None:
        own = section.text.split("\n")
        if section.text:
            assert own == lines[section.text_line - 1 : section.text_line - 1 + len(own)]
        for child in section.children:
            check(child)

    check(document.root)


def test_icons_are_no_part_of_titles() -> None:
    assert plain_title(":octicons-book-16: Overview of :a: b") == "Overview of :a: b"
