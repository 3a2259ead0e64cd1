"""Our own records as JSON."""

from __future__ import annotations

import json

from tools.profiling.errors import ReportError
from tools.profiling.source import Report
from tools.profiling.types import SCHEMA, Profile

MAX_CHARACTERS = 256 * 1024 * 1024


class RecordJson:
    """What `kevolve profile --json` writes."""

    name = "record"

    def accepts(self, head: str) -> bool:
        """Return whether it names our schema."""
        return head.lstrip()[:1] == "{" and f'"{SCHEMA}"' in head[:2000]

    def read(self, report: Report) -> Profile:
        """Return the profile."""
        text = "".join(report.chunks())
        if len(text) > MAX_CHARACTERS:
            raise ReportError(report.name, "too_large", f"a record of more than {MAX_CHARACTERS:,} characters is none of ours")
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ReportError(report.name, "truncated", f"the record is not whole JSON: {error}") from error
        try:
            return Profile.from_json(data)
        except ValueError as error:
            raise ReportError(report.name, "foreign_version", str(error)) from error
