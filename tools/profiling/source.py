"""A profiler's file as a stream of text with a known beginning: compressed or not, any encoding that the tools write, never read whole."""

from __future__ import annotations

import codecs
import gzip
import io
import zlib
from collections.abc import Iterator
from typing import BinaryIO

from tools.profiling.errors import ReportError

HEAD_BYTES = 256 * 1024
"""What a format is known by."""
_CHUNK = 256 * 1024
_ENCODINGS = ((b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"), (b"\xef\xbb\xbf", "utf-8-sig"))


class Report:
    """One file of a profiler. Read it once, front to back."""

    def __init__(self, name: str, stream: BinaryIO) -> None:
        """Look at the beginning.

        Raises:
            ReportError: It is empty, binary, or a damaged archive.
        """
        self.name = name
        self.is_cut = False
        """True once the archive turned out to end early."""
        first = stream.read(2)
        joined = _Rejoined(first, stream)
        raw: gzip.GzipFile | io.BufferedReader[_Rejoined] = (
            gzip.GzipFile(fileobj=io.BufferedReader(joined)) if first == b"\x1f\x8b" else io.BufferedReader(joined)
        )
        self._raw = raw
        head = self._read_bytes(HEAD_BYTES)
        if not head.strip():
            raise ReportError(name, "empty", "the file is empty: nothing was measured (did the profiled program launch anything?)")
        encoding = next((kind for mark, kind in _ENCODINGS if head.startswith(mark)), "utf-8")
        if encoding != "utf-16" and b"\0" in head:
            raise ReportError(
                name, "unknown_format", "a binary file; export it as text first (for .ncu-rep: ncu --import FILE --csv --page raw)"
            )
        self._decoder = codecs.getincrementaldecoder(encoding)(errors="replace")
        self.head = self._decoder.decode(head)
        """The beginning of the text."""
        self._at_start = True

    def chunks(self) -> Iterator[str]:
        """Yield the text piece by piece, from the beginning."""
        if not self._at_start:
            raise RuntimeError("a report is read once")
        self._at_start = False
        yield self.head
        while piece := self._read_bytes(_CHUNK):
            yield self._decoder.decode(piece)

    def lines(self) -> Iterator[str]:
        """Yield the lines without their ends. A line beyond 8 MB is a damaged file.

        Raises:
            ReportError: There is such a line.
        """
        rest = ""
        for piece in self.chunks():
            parts = (rest + piece).split("\n")
            rest = parts.pop()
            if len(rest) > 8 * 1024 * 1024:
                raise ReportError(self.name, "malformed", "a line of more than 8 MB: not a table")
            for part in parts:
                yield part.rstrip("\r")
        if rest:
            yield rest.rstrip("\r")

    def _read_bytes(self, size: int) -> bytes:
        parts, left = [], size
        while left > 0 and not self.is_cut:
            try:
                piece = self._raw.read1(left)  # read() would lose what came before the cut
            except (EOFError, zlib.error, gzip.BadGzipFile):
                self.is_cut = True
                break
            if not piece:
                break
            parts.append(piece)
            left -= len(piece)
        return b"".join(parts)


class _Rejoined(io.RawIOBase):
    """Two bytes that were looked at, and the rest of their stream."""

    def __init__(self, first: bytes, stream: BinaryIO) -> None:
        self._first = first
        self._stream = stream

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: object) -> int:
        """Fill the buffer."""
        view = memoryview(buffer)  # type: ignore[arg-type]  # the protocol of RawIOBase: any writable buffer
        data = self._first[: len(view)] or self._stream.read(len(view))
        self._first = self._first[len(view) :]
        view[: len(data)] = data
        return len(data)
