"""Errors of `tools.profiling`.

```
ToolsError
└── ReportError     a profiler's file that cannot be used; `kind` says why
```
"""

from __future__ import annotations

from tools.errors import ToolsError
from tools.profiling.types import MissingKind


class ReportError(ToolsError):
    """A profiler's file that cannot be used: empty, truncated before the first figure, of a foreign version, of no known format, or too large."""

    def __init__(self, name: str, kind: MissingKind, message: str) -> None:
        super().__init__(name, kind, message)
        self.name = name
        self.kind = kind
        self.message = message

    def __str__(self) -> str:
        return f"{self.name}: {self.message}"
