"""Errors of `tools`: mistakes of the caller or of the set-up. What a candidate does wrong is a `Status`, never an exception.

```
ToolsError
├── ProblemError        a problem file that cannot be used (missing, no `Model`, generator raises, not tensors)
│   └── ExpressionError   an expression in a kernel document uses something that is not allowed, or a name that does not exist
├── UnknownTargetError  a target name that is not in the registry
├── ProfileError        a chip's document lacks a number or states an absurd one
├── MachineError       the machine lacks something (compiler, device, disk space)
└── HarnessError        the evaluator itself failed; the candidate is not to blame
```
"""

from __future__ import annotations


class ToolsError(Exception):
    """Root of the errors that `tools` raises on purpose."""


class ProblemError(ToolsError):
    """A problem cannot be loaded or used; the message says what is wrong and what to do."""


class ExpressionError(ProblemError):
    """An expression in a kernel document cannot be read or evaluated."""


class UnknownTargetError(ToolsError):
    """A target name is not known; the message lists the known ones."""


class ProfileError(ToolsError):
    """A chip's document cannot serve as a target's profile; the message names the document, the number and what is allowed."""

    def __init__(self, message: str, document: str = "") -> None:
        super().__init__(message, document)
        self.message = message
        self.document = document

    def __str__(self) -> str:
        return self.message


class MachineError(ToolsError):
    """The machine lacks what the work needs (compiler, device, memory, disk); the message says how to get it."""


class HarnessError(ToolsError):
    """The evaluator failed for a reason that is not the candidate's."""
