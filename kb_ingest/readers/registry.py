"""Readers by name, and the choice of one for a file: by its ending, checked against its content."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from kb.errors import DocumentError
from kb_ingest.readers.base import RawFile, Reader
from kb_ingest.readers.cpp_source import CppReader
from kb_ingest.readers.html import HtmlReader
from kb_ingest.readers.markdown import MarkdownReader
from kb_ingest.readers.notebook import NotebookReader
from kb_ingest.readers.pdf import PdfReader
from kb_ingest.readers.profile import ProfileReader
from kb_ingest.readers.python_source import PythonReader
from kb_ingest.readers.rst import RstReader
from kb_ingest.readers.text import TextReader

READERS: dict[str, type[Reader]] = {
    "cpp": CppReader,
    "html": HtmlReader,
    "markdown": MarkdownReader,
    "notebook": NotebookReader,
    "pdf": PdfReader,
    "profile": ProfileReader,
    "python": PythonReader,
    "rst": RstReader,
    "text": TextReader,
}


def known_suffixes() -> frozenset[str]:
    """Return the file name endings that some reader names."""
    return frozenset(suffix for reader in READERS.values() for suffix in reader().suffixes)


def reader_name(reader: Reader) -> str:
    """Return the name under which a reader is registered."""
    return next(name for name, reader_type in READERS.items() if isinstance(reader, reader_type))


def reader_for(file: RawFile) -> Reader:
    """Return the reader of a file: the one its content names beyond doubt, else the one its ending names, else the one its content looks like.

    Raises:
        DocumentError: No reader takes it.
    """
    suffix = PurePosixPath(file.source).suffix.lower()
    if PdfReader().accepts(file):
        return PdfReader()
    if ProfileReader().accepts(file):
        return ProfileReader()
    for reader_type in READERS.values():
        reader = reader_type()
        if suffix and suffix in reader.suffixes and suffix not in TextReader.suffixes and reader.accepts(file):
            return reader
    if b"\0" not in file.data[:65536] or file.data.startswith(_WIDE):
        return _by_look(file)
    raise DocumentError(
        file.source, f"no reader for {suffix or 'this file'}; known endings: {', '.join(sorted(filter(None, known_suffixes())))}"
    )


_WIDE = (b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff")
_HTML = re.compile(rb"\A(?:\xef\xbb\xbf)?\s*(?:<!--.*?-->\s*|<\?xml[^>]*>\s*)*<(?:!doctype\s+html|html)\b", re.IGNORECASE | re.DOTALL)
_NOTEBOOK = re.compile(rb"\A\s*\{.*\"(?:cells|worksheets)\"\s*:\s*\[", re.DOTALL)
_PYTHON = re.compile(rb"\A#![^\n]*\bpython")
_RST = re.compile(rb"^\.\. [\w-]+::", re.MULTILINE)
_RST_TITLE = re.compile(rb"^[^\s=~^-][^\n]*\n([=~^])\1{3,}[ \t]*$", re.MULTILINE)
_MARKDOWN = re.compile(rb"^(?:#{1,4} \S|```)", re.MULTILINE)


def _by_look(file: RawFile) -> Reader:
    """Return the reader of a file whose name does not say what it is."""
    begin = file.data[:65536]
    if _HTML.match(begin[:4096]):
        return HtmlReader()
    if b'"nbformat"' in file.data and _NOTEBOOK.match(begin):
        return NotebookReader()
    if _PYTHON.match(begin):
        return PythonReader()
    suffix = PurePosixPath(file.source).suffix.lower()
    if suffix in ("", ".text"):
        if _RST.search(begin) and _RST_TITLE.search(begin):
            return RstReader()
        if (_MARKDOWN.search(begin) and b"](" in begin) or b"```" in begin:
            return MarkdownReader()
    return TextReader()
