"""What profilers write (Chrome traces, Nsight Compute and rocprof tables, Proton trees, our own records) as documents: a summary, what stands out, a section for each kernel.

Known by content. Spans count the lines of the text that is made of the file, since the files themselves have none that can be read.
"""

from __future__ import annotations

import io

from kb.errors import DocumentError
from kb.types import Document, Kind, Trust
from kb_ingest.readers.base import RawFile, make_document
from kb_ingest.readers.markdown import find_headings
from kb_ingest.readers.outline import build_tree
from tools.profiling.errors import ReportError
from tools.profiling.formats.registry import format_of, read_profile_bytes
from tools.profiling.source import Report
from tools.profiling.text import as_markdown
from tools.types import Evidence

_BEGINNINGS = (b"{", b"[", b'"', b"=", b"\x1f", b"\xef", b"\xff", b"\xfe", b"I", b"D", b"K", b"N")
"""How a report can begin; other files are not looked at twice. (A report with a program's output before it is read when it is named `.ncu.csv` or `.prof.csv`.)"""


class ProfileReader:
    """`*.hatchet`, and every file whose content is a profiler's."""

    suffixes: tuple[str, ...] = (".hatchet",)

    def accepts(self, file: RawFile) -> bool:
        """Return whether the content is a profiler's, beyond doubt."""
        begin = file.data[:64].lstrip()
        if not begin or (not begin.startswith(_BEGINNINGS) and not file.source.lower().endswith((".ncu.csv", ".prof.csv"))):
            return False
        try:
            return format_of(Report(file.source, io.BytesIO(file.data)).head) is not None
        except ReportError:
            return False

    def read(self, file: RawFile) -> Document:
        """Return the document; its front matter names target, device, candidate and problem.

        Raises:
            DocumentError: Nothing in the file can be used.
        """
        name = file.source.rsplit("/", 1)[-1]
        try:
            profile = read_profile_bytes(file.data, name)
        except ReportError as error:
            raise DocumentError(file.source, f"is a profile that cannot be used ({error.kind}): {error.message}") from error
        lines = as_markdown(profile, name).split("\n")
        headings = [heading for heading in find_headings(lines, 0) if heading.level > 1]
        title = lines[0].removeprefix("# ")
        measured = all(figure.evidence is Evidence.MEASURED for kernel in profile.kernels for figure in kernel.figures)
        target = profile.target or ("amd" if profile.device.startswith("AMD") else "")
        front = {
            "candidate_id": profile.candidate_id, "problem_id": profile.problem_id, "device": profile.device,
            "kernels": [kernel.name[:200] for kernel in profile.kernels if kernel.kind == "kernel"][:20],
            "trust": (Trust.MEASURED if measured else Trust.DERIVED).value,
            "targets": [target] if target and "targets" not in file.defaults else [],
        }  # fmt: skip
        kept = {key: value for key, value in front.items() if value}
        return make_document(file, title, build_tree(title, lines, headings, first=1), kept, Kind.PROFILE, lost=_lost(profile.missing))


def _lost(missing: object) -> dict[str, int]:
    items = missing if isinstance(missing, tuple) else ()
    number = sum(1 for item in items if item.kind in ("truncated", "malformed", "bounded"))
    return {"profile_parts": number} if number else {}
