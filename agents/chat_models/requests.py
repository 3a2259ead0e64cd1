"""What a request is: its essence without ids and metadata, the digest that names it, and tools in OpenAI's schema."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, InvalidToolCall, ToolCall
from langchain_core.messages.tool import invalid_tool_call, tool_call
from langchain_core.runnables import Runnable
from langchain_core.utils.function_calling import convert_to_openai_tool


def essence(message: BaseMessage) -> dict[str, Any]:  # Any: JSON
    """Return what a message says: role, text, tool calls; no ids and metadata that change from run to run."""
    data: dict[str, Any] = {"role": message.type, "content": message.content}
    if isinstance(message, AIMessage) and message.tool_calls:
        data["tool_calls"] = [{"name": call["name"], "args": call["args"]} for call in message.tool_calls]
    return data


def storable(message: AIMessage) -> AIMessage:
    """Return an answer whose texts can be written to files and databases: lone surrogates, which JSON can bring, become question marks."""
    parts = {"content": message.content, "tool_calls": message.tool_calls, "invalid_tool_calls": message.invalid_tool_calls}
    cleaned = {name: _encodable(value) for name, value in parts.items()}
    return message if cleaned == parts else message.model_copy(update=cleaned)


def _encodable(value: Any) -> Any:  # Any: JSON
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {_encodable(name): _encodable(item) for name, item in value.items()}
    return [_encodable(item) for item in value] if isinstance(value, list) else value


def digest_of(messages: Sequence[BaseMessage], tools: Sequence[Mapping[str, Any]] = ()) -> str:  # Any: JSON schema
    """Return 16 hexadecimal digits that name a request: its messages without ids, and its tools."""
    told = [essence(message) for message in messages]
    return hashlib.sha256(json.dumps([told, list(tools)], sort_keys=True).encode()).hexdigest()[:16]


def strict_calls(
    given: Iterable[tuple[str, str | dict[str, Any], str | None]],
) -> tuple[list[ToolCall], list[InvalidToolCall]]:  # Any: JSON
    """Return tool calls (name, arguments, id) as valid and invalid ones: arguments that are no JSON object make an invalid call, with the text as it came."""
    calls: list[ToolCall] = []
    invalid: list[InvalidToolCall] = []
    for index, (name, text, call_id) in enumerate(given):
        known = call_id or f"call-{index}"
        try:
            args = text if isinstance(text, dict) else json.loads(text or "{}")
            if not isinstance(args, dict):
                raise ValueError("not an object")
            calls.append(tool_call(name=name, args=args, id=known))
        except (ValueError, RecursionError) as error:
            invalid.append(invalid_tool_call(name=name, args=str(text), id=known, error=str(error)))
    return calls, invalid


class ToolBinding(BaseChatModel):
    """Binds tools in OpenAI's schema, which the models of this package take in that form."""

    def bind_tools(
        self, tools: Sequence[dict[str, Any] | type | Callable[..., Any] | Any], *, tool_choice: str | None = None, **kwargs: Any
    ) -> Runnable[Any, AIMessage]:
        """See `BaseChatModel.bind_tools`."""
        return self.bind(tools=[convert_to_openai_tool(tool) for tool in tools], **kwargs)
