"""Errors of `evaluation`.

```
EvaluationError
└── RecordError   a record that cannot be used: malformed, of another schema, or with numbers that cannot be right
```
"""

from __future__ import annotations


class EvaluationError(Exception):
    """Root of the errors that `evaluation` raises on purpose."""


class RecordError(EvaluationError):
    """A raw record cannot be used; the message names the file, the line and the reason."""
