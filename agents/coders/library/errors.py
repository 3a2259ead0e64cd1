"""Errors of the library coder. They say what is wrong with a document or a capture; a candidate's failure is never one of them.

```
LibraryError
├── CaptureError      the problem cannot be captured as a graph (the coder then falls back to eager and says so)
├── DocumentError     a kernel document breaks the contract in docs/architecture.md
└── LoweringError     an operator (with these arguments) has no scalar expression in the requested language
```
"""

from __future__ import annotations

from agents.errors import AgentsError


class LibraryError(AgentsError):
    """Root of the errors that the library coder raises on purpose."""


class CaptureError(LibraryError):
    """The problem cannot be captured as a graph; the message says why."""


class DocumentError(LibraryError):
    """A kernel document breaks the contract for kernel documents."""


class LoweringError(LibraryError):
    """An operator with these arguments has no scalar expression in the requested language."""
