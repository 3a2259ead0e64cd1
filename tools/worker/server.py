"""A worker's message loop: read a command, run it, answer. Used by the reference process and by the candidate's process."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from typing import Any

from tools.worker.channel import Channel, ChannelClosedError, ChannelTimeoutError

Answer = dict[str, Any]  # Any: JSON
_IDLE_LIMIT_S = 24 * 3600.0
_MAX_TEXT = 8000


class CommandError(Exception):
    """A command failed for a reason that the other side should classify.

    Args:
        kind: One word, for example `construct`.
        text: What happened, for a person.
    """

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(kind, text)
        self.kind = kind
        self.text = text


def serve(channel: Channel, commands: Mapping[str, Callable[[Answer, list[int]], Answer]]) -> None:
    """Answer commands until the channel closes.

    Args:
        channel: Where commands come from.
        commands: For each operation, a function of the message and its file descriptors; `"fds"` in its answer travels as descriptors.
    """
    while True:
        try:
            message, fds = channel.receive(_IDLE_LIMIT_S)
        except (ChannelClosedError, ChannelTimeoutError):
            return
        try:
            answer = commands[message["op"]](message, fds)
            answer["ok"] = True
        except CommandError as err:
            answer = {"ok": False, "kind": err.kind, "text": err.text[-_MAX_TEXT:]}
        except BaseException as err:  # the candidate's code may raise anything, SystemExit included
            answer = {"ok": False, "kind": classify(err), "type": type(err).__name__, "text": traceback.format_exc()[-_MAX_TEXT:]}
        answer["id"] = message["id"]
        try:
            channel.send(answer, answer.pop("fds", ()))
        except ChannelClosedError:
            return


def classify(error: BaseException) -> str:
    """Return `oom`, `exit` or `error` for an exception."""
    text = f"{type(error).__name__} {error}"
    if isinstance(error, MemoryError) or "OutOfMemoryError" in text or "can't allocate memory" in text or "out of memory" in text.lower():
        return "oom"
    return "exit" if isinstance(error, SystemExit) else "error"
