"""Take an answer in while it is written: what came so far is known when a person gives up, and a progress line can tell it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from agents.chat_models.sizes import BYTES_PER_TOKEN, text_of

if TYPE_CHECKING:
    from langchain_core.messages import AIMessage, BaseMessage
    from langchain_core.runnables import Runnable


class Progress:
    """How much of one answer has come.

    Args:
        heard: Is told the tokens so far after every piece.
    """

    def __init__(self, heard: Callable[[int], None] = lambda tokens: None) -> None:
        self._heard = heard
        self._bytes = 0

    @property
    def tokens(self) -> int:
        """Tokens so far, estimated; 0 before the first piece."""
        return -(-self._bytes // BYTES_PER_TOKEN)

    def add(self, size: int) -> None:
        """Count so many further bytes."""
        self._bytes += size
        self._heard(self.tokens)


async def streamed(
    model: Runnable[Any, AIMessage], messages: Sequence[BaseMessage], progress: Progress
) -> AIMessage:  # Any: langchain's union of what a model takes
    """Return the whole answer of a model, taken in piece by piece where the model can, else in one.

    Tool calls are read strictly: arguments that are no complete JSON object are invalid, as in an answer that comes in one piece.
    """
    from langchain_core.messages import AIMessage, AIMessageChunk

    from agents.chat_models.requests import strict_calls

    whole: AIMessage | None = None
    async for piece in model.astream(list(messages)):
        chunks = getattr(piece, "tool_call_chunks", [])
        progress.add(len(text_of(piece).encode()) + sum(len(chunk["args"] or "") for chunk in chunks))
        whole = piece if whole is None else whole + piece  # type: ignore[assignment]  # chunks add up to chunks
    if not isinstance(whole, AIMessageChunk):
        return whole if whole is not None else AIMessage("")
    calls, invalid = strict_calls((chunk["name"] or "", chunk["args"] or "", chunk["id"]) for chunk in whole.tool_call_chunks)
    if not whole.tool_call_chunks:
        calls, invalid = whole.tool_calls, whole.invalid_tool_calls
    return AIMessage(
        content=whole.content,
        tool_calls=calls,
        invalid_tool_calls=invalid,
        usage_metadata=whole.usage_metadata,
        response_metadata=whole.response_metadata,
        id=whole.id,
    )
