"""Jupyter notebooks: Markdown cells as they are, code cells as fenced blocks, text outputs shortened; images and rich outputs dropped.

Spans count the lines of the converted text, since the JSON of a notebook has no readable lines of its own.
"""

from __future__ import annotations

import json
import re
from typing import Any

from kb.errors import DocumentError
from kb.types import Document, Kind
from kb_ingest.readers.base import RawFile, decode, make_document
from kb_ingest.readers.markdown import find_headings
from kb_ingest.readers.outline import build_tree

_TERMINAL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
"""Colours and movements of the cursor."""
OUTPUT_CHARACTERS = 1000
"""Of each text output, so much is kept."""


class NotebookReader:
    """`*.ipynb`."""

    suffixes: tuple[str, ...] = (".ipynb",)

    def accepts(self, file: RawFile) -> bool:
        """Return whether the content is JSON with cells."""
        return file.data.lstrip()[:1] == b"{"

    def read(self, file: RawFile) -> Document:
        """Return the document.

        Raises:
            DocumentError: It is not a notebook.
        """
        try:
            notebook = json.loads(decode(file))
        except (ValueError, RecursionError) as err:
            raise DocumentError(file.source, f"is not a notebook: {err}") from err
        cells = notebook.get("cells") if isinstance(notebook, dict) else None
        if cells is None and isinstance(notebook, dict) and isinstance(notebook.get("worksheets"), list):
            cells = [cell for sheet in notebook["worksheets"] if isinstance(sheet, dict) for cell in sheet.get("cells") or []]
        if not isinstance(cells, list):
            raise DocumentError(file.source, "is not a notebook: it has no list of cells")
        language = _language(notebook)
        lines = "\n\n".join(part for cell in cells if isinstance(cell, dict) and (part := _cell(cell, language))).split("\n")
        headings = find_headings(lines, 0)
        by_level = sorted(headings, key=lambda heading: heading.level > 1)  # a licence may stand before the title, as a small heading
        title = next((heading.title for heading in by_level), file.source.rsplit("/", 1)[-1])
        return make_document(file, title, build_tree(title, lines, headings), {}, Kind.GUIDE, lost=_lost(cells))


def _lost(cells: list[Any]) -> dict[str, int]:  # Any: JSON
    """Return the outputs that are not text, those cut short, and the images attached to cells."""
    counts = {"images": 0, "outputs_cut": 0, "images_in_text": 0}
    for cell in cells:
        outputs = cell.get("outputs") if isinstance(cell, dict) else None
        attachments = cell.get("attachments") if isinstance(cell, dict) else None
        counts["images_in_text"] += len(attachments) if isinstance(attachments, dict) else 0
        for output in outputs if isinstance(outputs, list) else []:
            if isinstance(output, dict):
                data = output.get("data")
                counts["images"] += sum(1 for name in data if str(name).startswith("image/")) if isinstance(data, dict) else 0
                counts["outputs_cut"] += len(_joined(output.get("text")).strip()) > OUTPUT_CHARACTERS
    return {name: number for name, number in counts.items() if number}


def _language(notebook: dict[str, Any]) -> str:  # Any: JSON
    metadata = notebook.get("metadata")
    info = metadata.get("language_info") if isinstance(metadata, dict) else None
    return str(info.get("name", "python")) if isinstance(info, dict) else "python"


def _joined(value: Any) -> str:  # Any: JSON
    if isinstance(value, list):
        return "".join(str(item) for item in value)
    return value if isinstance(value, str) else ""


def _cell(cell: dict[str, Any], language: str) -> str:  # Any: JSON
    source = _joined(cell.get("source", cell.get("input"))).strip("\n")
    if cell.get("cell_type") != "code":
        return source
    parts = [f"```{language}\n{source}\n```"] if source.strip() else []
    for output in cell.get("outputs") or []:
        if isinstance(output, dict):
            data = output.get("data")
            text = _joined(output.get("text")) or (_joined(data.get("text/plain")) if isinstance(data, dict) else "")
            text = _TERMINAL.sub("", text)
            if text.strip():
                parts.append(f"```output\n{text.strip()[:OUTPUT_CHARACTERS]}\n```")
    return "\n\n".join(parts)
