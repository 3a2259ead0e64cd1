"""Errors of `agents`: mistakes of the caller or of the set-up. What a candidate does wrong is a `Status`, never an exception.

```
AgentsError
├── UnknownNameError    a strategy, coder, model, run or node that does not exist; the message lists what does
├── OptionError         an option with a value that cannot be used, or options that contradict each other
├── RunStoreError       the run store cannot be opened, read or written (newer schema, no space, read-only)
├── RunStateError       the run cannot do this now (finished, driven by another process, lease lost)
│   └── RunPaused       the run waits for a person; nothing is wrong
├── ModelError          a chat model cannot be reached or configured (no key, endpoint down, package missing)
└── BudgetExhausted     a session asked for more than the run may still spend
```
"""

from __future__ import annotations


class AgentsError(Exception):
    """Root of the errors that `agents` raises on purpose."""


class UnknownNameError(AgentsError):
    """A name or id does not exist; the message lists the known ones."""


class OptionError(AgentsError):
    """An option has a value that cannot be used, or options contradict each other."""


class RunStoreError(AgentsError):
    """The run store cannot be opened, read or written; the message says why and what to do."""


class RunStateError(AgentsError):
    """The run is not in a state that allows this; the message says which state it is in."""


class RunPaused(RunStateError):
    """The run waits for a person: paused, or in need of an approval that nobody was there to give; `kevolve resume` continues it."""


class ModelError(AgentsError):
    """A chat model cannot be reached or configured; the message says what to install, set or start."""


class BudgetExhausted(AgentsError):
    """A session asked for more than the run may still spend."""
