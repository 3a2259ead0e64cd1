"""Plain text: one section, paragraphs kept."""

from __future__ import annotations

from kb.errors import DocumentError
from kb.types import Document, Kind
from kb_ingest.readers.base import RawFile, decode, make_document, split_front_matter
from kb_ingest.readers.outline import build_tree


class TextReader:
    """`*.txt` and everything else that is text."""

    suffixes: tuple[str, ...] = (".txt", ".text", ".log", "")

    def accepts(self, file: RawFile) -> bool:
        """Return True: every text is plain text."""
        return True

    def read(self, file: RawFile) -> Document:
        """Return the document; the title is the first short line or the file's name."""
        text = decode(file)
        front_matter, skipped = split_front_matter(file.source, text)
        lines = text.split("\n")
        first = next((line.strip() for line in lines[skipped:] if line.strip()), "")
        name = file.source.rsplit("/", 1)[-1]
        title = first if 0 < len(first) <= 100 and not first.endswith((".", ",", ";")) else name
        return make_document(file, title, build_tree(title, lines, [], skipped, "plain"), front_matter, Kind.GUIDE)


def decode_or_none(file: RawFile) -> str | None:
    """Return the text of a file, or None if it is binary."""
    try:
        return decode(file)
    except DocumentError:
        return None
