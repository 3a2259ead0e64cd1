"""Memory of reading a long PDF, measured in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from pdf_writer import PdfWriter

PAGES = 1000
PARENT_MEGABYTES = 250
"""Most that the reading process may take: it holds the lines of all pages with their places. Measured: 85."""
WORKER_MEGABYTES = 150
"""Most that its worker may take: it holds the file and one page at a time. Measured: 41."""
CHILD = """
import json, resource, sys
resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))
from pathlib import Path
from kb_ingest.readers.base import RawFile
from kb_ingest.readers.pdf import PdfReader
document = PdfReader().read(RawFile("long.pdf", Path(sys.argv[1]).read_bytes()))
own = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))  # ru_maxrss would count the process that started this one
worker = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
print(json.dumps({"pages": len(document.front_matter["page_lines"]), "parent_mb": int(own.split()[1]) / 1024, "worker_mb": worker / 1024}))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the kernel tells the peak of a process there")
def test_a_thousand_pages_are_read_in_bounded_memory(tmp_path: Path) -> None:
    writer = PdfWriter()
    for number in range(PAGES):
        writer.page().text(72, 60, f"{number + 1} Registers of unit {number}", size=16, font="F2")
        words = [f"Line {line} of page {number}: the field at bit {line} holds a count of {number * line}." for line in range(45)]
        writer.paragraph(72, 100, words)
    path = tmp_path / "long.pdf"
    path.write_bytes(writer.to_bytes())
    root = Path(__file__).resolve().parents[2]
    child = subprocess.run([sys.executable, "-c", CHILD, str(path)], cwd=root, capture_output=True, text=True, check=False)
    assert child.returncode == 0, child.stderr
    measured = json.loads(child.stdout)
    assert measured["pages"] == PAGES
    assert measured["parent_mb"] < PARENT_MEGABYTES, measured
    assert measured["worker_mb"] < WORKER_MEGABYTES, measured
