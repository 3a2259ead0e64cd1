"""How long messages are, in text and in tokens, on the safe side."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from langchain_core.messages import BaseMessage

BYTES_PER_TOKEN = 3
"""Of English and code, on the safe side: tokenizers make 3 to 4.5 bytes a token of them."""
TOKENS_PER_MESSAGE = 8
"""What the form of a chat adds to each message."""


def text_of(message: BaseMessage) -> str:
    """Return the text of a message, whatever form a provider gives it."""
    text = message.text
    return text if isinstance(text, str) else str(message.content)


def tokens_of(messages: Sequence[BaseMessage], tools: Sequence[Mapping[str, Any]] = ()) -> int:  # Any: JSON schema
    """Return an estimate of the tokens of a request, on the safe side."""
    size = sum(len(text_of(message).encode()) for message in messages)
    size += sum(len(json.dumps(call["args"])) + len(call["name"]) for message in messages for call in getattr(message, "tool_calls", []))
    return (size + len(json.dumps(list(tools))) if tools else size) // BYTES_PER_TOKEN + TOKENS_PER_MESSAGE * len(messages)
