"""The protocol of formats."""

from __future__ import annotations

from typing import Protocol

from tools.profiling.source import Report
from tools.profiling.types import Profile


class Format(Protocol):
    """One kind of file that a profiler writes."""

    name: str

    def accepts(self, head: str) -> bool:
        """Return whether the beginning of a text is of this format, beyond doubt."""

    def read(self, report: Report) -> Profile:
        """Return the profile: streaming, in bounded memory.

        Raises:
            ReportError: Nothing in it can be used. What was read before damage is returned, with the damage in `missing`.
        """
