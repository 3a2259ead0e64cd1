"""Readers by name, and the choice of one for a file: by its ending, checked against its content."""

from __future__ import annotations

from pathlib import PurePosixPath

from kb.errors import DocumentError
from kb_ingest.readers.base import RawFile, Reader
from kb_ingest.readers.html import HtmlReader
from kb_ingest.readers.markdown import MarkdownReader
from kb_ingest.readers.notebook import NotebookReader
from kb_ingest.readers.python_source import PythonReader
from kb_ingest.readers.rst import RstReader
from kb_ingest.readers.text import TextReader

READERS: dict[str, type[Reader]] = {
    "html": HtmlReader,
    "markdown": MarkdownReader,
    "notebook": NotebookReader,
    "python": PythonReader,
    "rst": RstReader,
    "text": TextReader,
}


def known_suffixes() -> frozenset[str]:
    """Return the file name endings that some reader names."""
    return frozenset(suffix for reader in READERS.values() for suffix in reader().suffixes)


def reader_for(file: RawFile) -> Reader:
    """Return the reader of a file.

    Raises:
        DocumentError: No reader takes it.
    """
    suffix = PurePosixPath(file.source).suffix.lower()
    for reader_type in READERS.values():
        reader = reader_type()
        if suffix in reader.suffixes and reader.accepts(file):
            return reader
    if b"\0" not in file.data[:65536]:
        return TextReader()
    raise DocumentError(
        file.source, f"no reader for {suffix or 'this file'}; known endings: {', '.join(sorted(filter(None, known_suffixes())))}"
    )
