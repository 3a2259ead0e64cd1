"""What can go wrong in a call, in words that a model can act on.

```
AgentsError
└── CallError    an argument that cannot be used, or something that does not exist; the message says what to send instead
```
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import ParamSpec, TypeVar

from agents.errors import AgentsError

Parameters = ParamSpec("Parameters")
Answer = TypeVar("Answer")


class CallError(AgentsError):
    """An argument of a call cannot be used; the message says what to send instead."""


def is_expected(error: Exception) -> bool:
    """Return whether an error is one of ours, whose message is meant for the caller."""
    from kb.errors import KnowledgeError
    from tools.errors import ToolsError

    return isinstance(error, (AgentsError, KnowledgeError, ToolsError))


def told(function: Callable[Parameters, Awaitable[Answer]]) -> Callable[Parameters, Awaitable[Answer]]:
    """Make a tool answer with our errors' messages; anything else stays a crash, whose text the client does not see."""
    from mcp.server.mcpserver.exceptions import ToolError

    @functools.wraps(function)
    async def call(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Answer:
        try:
            return await function(*args, **kwargs)
        except Exception as error:  # the outside begins here
            if is_expected(error):
                raise ToolError(str(error)[:4000]) from error
            raise

    return call
