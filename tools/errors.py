"""Errors of `tools`: mistakes of the caller or of the set-up. What a candidate does wrong is a `Status`, never an exception.

```
ToolsError
├── ProblemError        a problem file that cannot be used (missing, no `Model`, generator raises, not tensors)
├── UnknownTargetError  a target name that is not in the registry
├── MachineError       the machine lacks something (compiler, device, disk space)
└── HarnessError        the evaluator itself failed; the candidate is not to blame
```
"""

from __future__ import annotations


class ToolsError(Exception):
    """Root of the errors that `tools` raises on purpose."""


class ProblemError(ToolsError):
    """A problem cannot be loaded or used; the message says what is wrong and what to do."""


class UnknownTargetError(ToolsError):
    """A target name is not known; the message lists the known ones."""


class MachineError(ToolsError):
    """The machine lacks what the work needs (compiler, device, memory, disk); the message says how to get it."""


class HarnessError(ToolsError):
    """The evaluator failed for a reason that is not the candidate's."""
