"""What a request is: its essence without ids and metadata, the digest that names it, and tools in OpenAI's schema."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.runnables import Runnable
from langchain_core.utils.function_calling import convert_to_openai_tool


def essence(message: BaseMessage) -> dict[str, Any]:  # Any: JSON
    """Return what a message says: role, text, tool calls; no ids and metadata that change from run to run."""
    data: dict[str, Any] = {"role": message.type, "content": message.content}
    if isinstance(message, AIMessage) and message.tool_calls:
        data["tool_calls"] = [{"name": call["name"], "args": call["args"]} for call in message.tool_calls]
    return data


def digest_of(messages: Sequence[BaseMessage], tools: Sequence[Mapping[str, Any]] = ()) -> str:  # Any: JSON schema
    """Return 16 hexadecimal digits that name a request: its messages without ids, and its tools."""
    told = [essence(message) for message in messages]
    return hashlib.sha256(json.dumps([told, list(tools)], sort_keys=True).encode()).hexdigest()[:16]


class ToolBinding(BaseChatModel):
    """Binds tools in OpenAI's schema, which the models of this package take in that form."""

    def bind_tools(
        self, tools: Sequence[dict[str, Any] | type | Callable[..., Any] | Any], *, tool_choice: str | None = None, **kwargs: Any
    ) -> Runnable[Any, AIMessage]:
        """See `BaseChatModel.bind_tools`."""
        return self.bind(tools=[convert_to_openai_tool(tool) for tool in tools], **kwargs)
