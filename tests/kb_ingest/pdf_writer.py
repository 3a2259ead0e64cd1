"""Writes small PDF files for the tests: text at places in the standard fonts, rules, an outline, and broken or hostile ones."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field

FONTS = {"F1": "Helvetica", "F2": "Helvetica-Bold", "F3": "Courier"}


@dataclass
class PdfWriter:
    """Pages of drawing operators; heights are counted from the top of the page."""

    width: int = 612
    height: int = 792
    title: str = ""
    pages: list[list[str]] = field(default_factory=list)
    outline: list[tuple[str, int]] = field(default_factory=list)
    """Title and page (from 0)."""

    def page(self) -> PdfWriter:
        """Begin a page."""
        self.pages.append([])
        return self

    def text(self, x: float, y: float, words: str, size: float = 10, font: str = "F1") -> PdfWriter:
        """Write words at a place."""
        safe = words.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)")
        self.pages[-1].append(f"BT /{font} {size} Tf 1 0 0 1 {x} {self.height - y} Tm ({safe}) Tj ET")
        return self

    def paragraph(self, x: float, y: float, lines: Sequence[str], size: float = 10, font: str = "F1") -> PdfWriter:
        """Write lines one below the other."""
        for number, line in enumerate(lines):
            self.text(x, y + number * size * 1.2, line, size, font)
        return self

    def rule(self, x0: float, y0: float, x1: float, y1: float) -> PdfWriter:
        """Draw a line."""
        self.pages[-1].append(f"0.5 w {x0} {self.height - y0} m {x1} {self.height - y1} l S")
        return self

    def to_bytes(self, trailer: str = "", stream: bytes | None = None) -> bytes:
        """Return the file.

        Args:
            trailer: More entries for the trailer.
            stream: Raw content for every page in place of what was drawn, already compressed.
        """
        objects: list[bytes] = [b"", b""]
        fonts = " ".join(f"/{name} << /Type /Font /Subtype /Type1 /BaseFont /{font} >>" for name, font in FONTS.items())
        kids = []
        for operators in self.pages:
            body = stream if stream is not None else zlib.compress("\n".join(operators).encode("latin-1"))
            objects.append(b"<< /Length %d /Filter /FlateDecode >>\nstream\n" % len(body) + body + b"\nendstream")
            content = len(objects)
            objects.append(
                f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 {self.width} {self.height}] /Contents {content} 0 R /Resources << /Font << {fonts} >> >> >>".encode()
            )
            kids.append(len(objects))
        root = "<< /Type /Catalog /Pages 2 0 R"
        if self.outline:
            first = len(objects) + 2
            last = first + len(self.outline) - 1
            objects.append(f"<< /Type /Outlines /First {first} 0 R /Last {last} 0 R /Count {len(self.outline)} >>".encode())
            root += f" /Outlines {first - 1} 0 R"
            for number, (title, page) in enumerate(self.outline):
                links = f" /Next {first + number + 1} 0 R" if number + 1 < len(self.outline) else ""
                links += f" /Prev {first + number - 1} 0 R" if number else ""
                objects.append(
                    f"<< /Title ({title}) /Parent {first - 1} 0 R /Dest [{kids[page]} 0 R /XYZ null null null]{links} >>".encode()
                )
        objects[0] = (root + " >>").encode()
        objects[1] = f"<< /Type /Pages /Count {len(kids)} /Kids [{' '.join(f'{kid} 0 R' for kid in kids)}] >>".encode()
        objects.append(f"<< /Title ({self.title}) >>".encode())
        out = bytearray(b"%PDF-1.5\n")
        offsets = []
        for number, item in enumerate(objects, start=1):
            offsets.append(len(out))
            out += b"%d 0 obj\n" % number + item + b"\nendobj\n"
        start = len(out)
        out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
        out += b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
        out += (
            f"trailer\n<< /Size {len(objects) + 1} /Root 1 0 R /Info {len(objects)} 0 R {trailer} >>\nstartxref\n{start}\n%%EOF\n".encode()
        )
        return bytes(out)
