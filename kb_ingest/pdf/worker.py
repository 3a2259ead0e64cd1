"""A child process that reads a PDF from its standard input and writes a page a line to its standard output, as JSON.

A hostile PDF may crash pdfium, run for hours or swell to any size when its streams are unpacked. The child has a limit on its memory, the parent one on the time
of each page; what a page cannot do within them costs that page, not the ingestion. The child executes nothing of the PDF: no scripts, no forms, no links.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from kb.errors import DocumentError
from kb_ingest.pdf.layout import Line, page_lines
from kb_ingest.pdf.outline import Entry, PageLines

MEMORY_BYTES = 3 * 1024**3
"""Address space of the child."""
PAGE_SECONDS = 60.0
"""Longest wait for one page; the first one includes opening the file."""
MAX_PAGES = 20_000
MAX_FAILURES = 20
"""Pages that may be lost before the document is refused."""
MAX_OUTLINE = 50_000


def read_pdf(source: str, data: bytes) -> tuple[list[PageLines], list[Entry], str, list[int]]:
    """Return the pages, the outline, the title of the metadata, and the numbers of the pages that could not be read.

    Raises:
        DocumentError: It is encrypted, broken, has no page that can be read, or too many.
    """
    pages: dict[int, PageLines] = {}
    lost: list[int] = []
    first, total = 1, 1
    outline: list[Entry] = []
    title = ""
    while first <= total:
        reached = first - 1
        for message in _messages(data, first):
            if "error" in message:
                raise DocumentError(source, str(message["error"]))
            if "pages" in message:
                total, title = int(message["pages"]), str(message["title"])
                outline = [Entry(*item) for item in message["outline"]]
                continue
            reached = int(message["number"])
            if "lost" in message:
                lost.append(reached)
            else:
                pages[reached] = _page_from_json(message)
        if reached < total:
            lost.append(reached + 1)
            if len(lost) > MAX_FAILURES or not (pages or total > 1):
                raise DocumentError(
                    source, f"is broken: its pages cannot be read within {PAGE_SECONDS:.0f} s and {MEMORY_BYTES >> 30} GB each; repair it"
                )
        first = reached + 2 if reached < total else total + 1
    if not pages:
        raise DocumentError(source, "is broken: none of its pages can be read; repair it")
    return [pages.get(number, PageLines(number, 0.0, ())) for number in range(1, total + 1)], outline, title, lost


def _messages(data: bytes, first: int) -> Iterator[dict[str, Any]]:  # Any: JSON
    """Yield what a child says until it ends, is killed for slowness, or dies."""
    root = Path(__file__).resolve().parents[2]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "kb_ingest.pdf.worker", str(first)]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment)
    assert child.stdin is not None and child.stdout is not None
    lines: queue.Queue[bytes | None] = queue.Queue(maxsize=16)
    stopped = threading.Event()

    def pump() -> None:
        for line in child.stdout or ():
            while not stopped.is_set():
                try:
                    lines.put(line, timeout=0.5)
                    break
                except queue.Full:
                    continue
        if not stopped.is_set():
            lines.put(None)

    reader = threading.Thread(target=pump, daemon=True)
    reader.start()
    try:
        try:
            child.stdin.write(data)
            child.stdin.close()
        except BrokenPipeError:
            pass  # it died before it had read everything: the lines say why, if it could
        while True:
            try:
                line = lines.get(timeout=PAGE_SECONDS)
            except queue.Empty:
                break
            if line is None:
                break
            yield json.loads(line)
    finally:
        stopped.set()
        child.kill()
        child.wait()
        child.stdout.close()
        reader.join(timeout=10)


def _page_from_json(message: dict[str, Any]) -> PageLines:  # Any: JSON
    lines = tuple(Line(**{**line, "table": tuple(line["table"])}) for line in message["lines"])
    return PageLines(message["number"], message["height"], lines, message["num_images"], message["num_unreadable"], message["num_cut"])


def main() -> None:
    """Read the PDF and write its pages from the one named on the command line."""
    import contextlib

    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    out = sys.stdout

    def tell(message: dict[str, Any]) -> None:  # Any: JSON
        out.write(json.dumps(message) + "\n")
        out.flush()

    import pypdfium2 as pdfium  # type: ignore[import-untyped]  # publishes no types

    first = int(sys.argv[1])
    data = sys.stdin.buffer.read()
    try:
        document = pdfium.PdfDocument(data)
        total = len(document)
    except pdfium.PdfiumError as err:
        tell({"error": _reason(str(err))})
        return
    except MemoryError:
        tell({"error": f"needs more than {MEMORY_BYTES >> 30} GB of memory to open; split it"})
        return
    if total < 1 or total > MAX_PAGES:
        tell({"error": f"has {total:,} pages; between 1 and {MAX_PAGES:,} are read; split it" if total else "is broken: it has no pages"})
        return
    tell({"pages": total, "title": _title(document), "outline": _outline(document, total) if first == 1 else []})
    from kb_ingest.pdf.pages import read_page

    for number in range(first, total + 1):
        try:
            page = read_page(document, number)
            lines = [asdict(line) for line in page_lines(page)]
        except (pdfium.PdfiumError, MemoryError, RecursionError, OverflowError, ValueError):
            tell({"number": number, "lost": True})
            continue
        tell(
            {
                "number": number,
                "height": page.height,
                "lines": lines,
                "num_images": page.num_images,
                "num_unreadable": page.num_unreadable,
                "num_cut": page.num_cut,
            }
        )


def _reason(text: str) -> str:
    if "assword" in text or "ecurity" in text:
        return "is encrypted: it opens only with a password; save it without one"
    return f"is broken: pdfium cannot open it ({text}); repair it"


def _title(document: Any) -> str:  # Any: pypdfium2 publishes no types for it
    title = str(document.get_metadata_dict().get("Title") or "")
    is_name = title.lower().endswith((".doc", ".docx", ".pdf", ".tex", ".dvi", ".fm", ".indd", ".qxd", ".ppt", ".pptx", ".odt", ".p65"))
    return "" if is_name or title.lower().startswith(("microsoft word", "untitled", "slide 1")) else " ".join(title.split())[:160]


def _outline(document: Any, total: int) -> list[tuple[str, int, int, float | None]]:  # Any: pypdfium2 publishes no types for it
    import itertools

    import pypdfium2 as pdfium

    found: list[tuple[str, int, int, float | None]] = []
    try:
        for bookmark in itertools.islice(document.get_toc(max_depth=8), MAX_OUTLINE):
            target = bookmark.get_dest()
            index = target.get_index() if target is not None else None
            if index is None or not 0 <= index < total:
                continue
            mode, view = target.get_view()
            tops = {pdfium.raw.PDFDEST_VIEW_XYZ: 1, pdfium.raw.PDFDEST_VIEW_FITH: 0, pdfium.raw.PDFDEST_VIEW_FITBH: 0}
            top = tops.get(mode, len(view))
            y = document.get_page_size(index)[1] - float(view[top]) if top < len(view) and view[top] else None
            found.append((bookmark.get_title(), bookmark.level + 1, index + 1, y))
    except (pdfium.PdfiumError, ValueError, RecursionError):
        pass  # a broken outline: what was read of it is used
    return found


if __name__ == "__main__":
    main()
