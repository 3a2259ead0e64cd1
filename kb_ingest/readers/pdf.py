"""PDF manuals by pdfium, in a confined process: sections by outline or by the look of headings, columns in order, tables as Markdown, pages kept for citations.

Spans count the lines of the converted text; `page_lines` in the front matter has the line where each page begins, so that a span can be given in pages.
Text in images (scanned pages) is not read: such pages are counted as lost.
"""

from __future__ import annotations

from kb.errors import DocumentError
from kb.types import Document, Kind
from kb_ingest.readers.base import RawFile, make_document
from kb_ingest.readers.outline import build_tree

HEADER_BYTES = 1024
"""The header may stand this far into the file (ISO 32000-1, annex H.3.4.1)."""


class PdfReader:
    """`*.pdf`."""

    suffixes: tuple[str, ...] = (".pdf",)

    def accepts(self, file: RawFile) -> bool:
        """Return whether the content has the header of a PDF."""
        return b"%PDF-" in file.data[:HEADER_BYTES]

    def read(self, file: RawFile) -> Document:
        """Return the document.

        Raises:
            DocumentError: It is encrypted, broken, too large, or no PDF.
        """
        if not self.accepts(file):
            raise DocumentError(file.source, "is broken: it does not begin like a PDF")
        from kb_ingest.pdf.outline import assemble
        from kb_ingest.pdf.worker import read_pdf

        pages, outline, title, lost = read_pdf(file.source, file.data)
        text = assemble(pages, outline, title)
        if not any(text.lines):
            raise DocumentError(
                file.source, f"has no text on its {len(pages)} pages: they are images or drawings; run it through text recognition first"
            )
        name = file.source.rsplit("/", 1)[-1]
        if lost:
            text.lost["pages_unreadable"] = len(lost)
        root = build_tree(text.title or name, text.lines, text.headings, syntax="converted")
        return make_document(file, text.title or name, root, {"page_lines": text.page_lines}, Kind.GUIDE, lost=text.lost)
