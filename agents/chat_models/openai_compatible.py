"""Talk to any server with OpenAI's `/chat/completions`. One try a call: who asks decides about another."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, convert_to_openai_messages
from langchain_core.messages.ai import UsageMetadata
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from pydantic import PrivateAttr

from agents.chat_models.calls import CallOutcome, ModelCallError
from agents.chat_models.keys import KEY_VARIABLE, find_key, scrub
from agents.chat_models.outcomes import outcome_of_status
from agents.chat_models.requests import ToolBinding, strict_calls

MAX_ANSWER_BYTES = 16 * 2**20
"""An answer that is longer than this is not read to its end."""


class OpenAICompatibleChatModel(ToolBinding):
    """A model behind an OpenAI-compatible server."""

    base_url: str
    model_id: str = ""
    """Empty: the first that the server lists."""
    timeout_s: float = 300.0
    """Longest wait for a whole answer, in s."""
    max_tokens: int | None = None
    temperature: float | None = None
    _refuses_streams: bool = PrivateAttr(default=False)

    @property
    def _llm_type(self) -> str:
        return "openai-compatible"

    def _generate(
        self, messages: list[BaseMessage], stop: list[str] | None = None, run_manager: CallbackManagerForLLMRun | None = None, **kwargs: Any
    ) -> ChatResult:
        body = self._body(messages, stop, kwargs)
        return self._result(self._request("POST", "/chat/completions", body))

    def _result(self, answer: Mapping[str, Any]) -> ChatResult:  # Any: JSON
        try:
            choice = answer["choices"][0]
            message = message_from_openai(choice["message"])
        except (KeyError, IndexError, TypeError, AttributeError) as error:
            raise ModelCallError(f"the server {self.base_url} sent no answer: {json.dumps(answer)[:300]}") from error
        message.response_metadata["finish_reason"] = str(choice.get("finish_reason") or "")
        message.usage_metadata = _usage(answer)
        return ChatResult(generations=[ChatGeneration(message=message)])

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        """Yield the answer in pieces; in one piece where the server does not stream. Giving up closes the connection, which ends the server's work."""
        import httpx

        if self._refuses_streams:
            yield _in_one_piece(await self._agenerate(messages, stop, None, **kwargs))
            return
        body = await asyncio.to_thread(self._body, messages, stop, kwargs)
        body |= {"stream": True, "stream_options": {"include_usage": True}}
        limit = _Limit(self.base_url, self.timeout_s)
        try:
            async with (
                httpx.AsyncClient(timeout=self.timeout_s) as client,
                client.stream("POST", self.base_url + "/chat/completions", json=body, headers=_headers()) as response,
            ):
                if response.status_code < 400 and "text/event-stream" in response.headers.get("content-type", ""):
                    async for line in response.aiter_lines():
                        limit.take(len(line) + 1)
                        if piece := self._piece(line):
                            yield piece
                    return
                read = bytearray()
                async for part in response.aiter_bytes():
                    limit.take(len(part))
                    read += part
        except httpx.HTTPError as error:
            raise self._unreached(error) from error
        text = bytes(read).decode("utf-8", errors="replace")
        if response.status_code in (400, 422) and "stream" in text.lower():
            self._refuses_streams = True
            yield _in_one_piece(await self._agenerate(messages, stop, None, **kwargs))
        else:
            yield _in_one_piece(self._result(self._data(response.status_code, text, response.headers)))

    def _piece(self, line: str) -> ChatGenerationChunk | None:
        """Read one line of an event stream; None where it says nothing."""
        data = line.removeprefix("data:").strip()
        if not line.startswith("data:") or data == "[DONE]":
            return None
        try:
            event = json.loads(data)
            if event.get("error"):
                raise ModelCallError(scrub(f"the model server {self.base_url} broke off: {json.dumps(event['error'])[:500]}"))
            choice = (event.get("choices") or [{}])[0]
            delta = choice.get("delta") or {}
            calls = [
                tool_call_chunk(
                    name=item.get("function", {}).get("name"),
                    args=item.get("function", {}).get("arguments"),
                    id=item.get("id"),
                    index=item.get("index", 0),
                )
                for item in delta.get("tool_calls") or []
            ]
            content = delta.get("content")
        except (ValueError, AttributeError, TypeError, IndexError) as error:
            raise ModelCallError(f"the server {self.base_url} sent no event of a stream: {data[:200]!r}") from error
        message = AIMessageChunk(content=content if isinstance(content, str) else "", tool_call_chunks=calls, usage_metadata=_usage(event))
        if choice.get("finish_reason"):
            message.response_metadata["finish_reason"] = str(choice["finish_reason"])
        return ChatGenerationChunk(message=message)

    def _body(self, messages: list[BaseMessage], stop: list[str] | None, more: Mapping[str, Any]) -> dict[str, Any]:  # Any: JSON
        if not self.model_id:
            listed = self._request("GET", "/models", None).get("data") or []
            if not listed:
                raise ModelCallError(f"the server {self.base_url} lists no model; name one with --model-id")
            self.model_id = str(listed[0]["id"])
        body: dict[str, Any] = {"model": self.model_id, "messages": convert_to_openai_messages(messages)}
        for name, value in (
            ("tools", more.get("tools")),
            ("stop", stop),
            ("max_tokens", more.get("max_tokens") or self.max_tokens),
            ("temperature", self.temperature),
        ):
            if value:
                body[name] = value
        return body

    def _request(self, method: str, path: str, body: Mapping[str, Any] | None) -> dict[str, Any]:  # Any: JSON
        import httpx

        limit = _Limit(self.base_url, self.timeout_s)
        read = bytearray()
        try:
            with httpx.stream(method, self.base_url + path, json=body, headers=_headers(), timeout=self.timeout_s) as response:
                for part in response.iter_bytes():
                    limit.take(len(part))
                    read += part
        except httpx.HTTPError as error:
            raise self._unreached(error) from error
        return self._data(response.status_code, bytes(read).decode("utf-8", errors="replace"), response.headers)

    def _unreached(self, error: Exception) -> ModelCallError:
        import httpx

        if isinstance(error, httpx.TimeoutException):
            return ModelCallError(f"{self.base_url} did not answer within {self.timeout_s:.0f} s", CallOutcome.TIMED_OUT)
        return ModelCallError(
            f"the model server {self.base_url} cannot be reached ({type(error).__name__}: {error}); check that the server runs and --base-url is right",
            CallOutcome.UNREACHABLE,
        )

    def _data(self, status: int, text: str, headers: Mapping[str, str]) -> dict[str, Any]:  # Any: JSON
        if status >= 400:
            outcome = outcome_of_status(status, text)
            hint = f"; set {KEY_VARIABLE}" if outcome is CallOutcome.REFUSED_KEY else ""
            failure = ModelCallError(scrub(f"the model server {self.base_url} said HTTP {status}: {text[:500]}{hint}"), outcome)
            failure.retry_after_s = _seconds(headers.get("retry-after", ""))
            raise failure
        try:
            data = json.loads(text)
        except ValueError as error:
            raise ModelCallError(f"the server {self.base_url} did not answer in JSON: {text[:200]!r}") from error
        if not isinstance(data, dict):
            raise ModelCallError(f"the server {self.base_url} did not answer with an object: {text[:200]!r}")
        return data


class _Limit:
    """Most bytes and time of one answer."""

    def __init__(self, address: str, seconds: float) -> None:
        self._address, self._seconds = address, seconds
        self._deadline = time.monotonic() + seconds
        self._size = 0

    def take(self, size: int) -> None:
        """Count so many further bytes.

        Raises:
            ModelCallError: There are too many, or the time is over.
        """
        self._size += size
        if self._size > MAX_ANSWER_BYTES:
            raise ModelCallError(f"the answer of {self._address} has more than {MAX_ANSWER_BYTES} bytes", CallOutcome.CUT_OFF)
        if time.monotonic() > self._deadline:
            raise ModelCallError(f"the answer of {self._address} had not ended after {self._seconds:.0f} s", CallOutcome.TIMED_OUT)


def _headers() -> dict[str, str]:
    key = find_key(KEY_VARIABLE, "OPENAI_API_KEY")
    return {"Authorization": f"Bearer {key}"} if key else {}


def _usage(data: Mapping[str, Any]) -> UsageMetadata | None:  # Any: JSON
    usage = data.get("usage")
    if not isinstance(usage, Mapping) or "total_tokens" not in usage:
        return None
    sent, total = int(usage.get("prompt_tokens") or 0), int(usage["total_tokens"])
    return UsageMetadata(input_tokens=sent, output_tokens=max(0, total - sent), total_tokens=total)


def _in_one_piece(result: ChatResult) -> ChatGenerationChunk:
    """Return a whole answer as the only piece of a stream."""
    message = result.generations[0].message
    assert isinstance(message, AIMessage)
    calls = [
        tool_call_chunk(name=item["name"], args=json.dumps(item["args"]), id=item["id"], index=at)
        for at, item in enumerate(message.tool_calls)
    ]
    calls += [
        tool_call_chunk(name=item["name"], args=item["args"], id=item["id"], index=len(calls) + at)
        for at, item in enumerate(message.invalid_tool_calls)
    ]
    piece = AIMessageChunk(content=message.content, tool_call_chunks=calls, usage_metadata=message.usage_metadata)
    piece.response_metadata = dict(message.response_metadata)
    return ChatGenerationChunk(message=piece)


def message_from_openai(data: Mapping[str, Any]) -> AIMessage:  # Any: JSON
    """Read a message in OpenAI's form; tool calls whose arguments are no JSON object become invalid ones, with the text as it came."""
    calls, invalid = strict_calls(
        (str(item["function"]["name"]), item["function"].get("arguments") or "{}", item.get("id")) for item in data.get("tool_calls") or []
    )
    content = data.get("content")
    return AIMessage(content=content if isinstance(content, str) else "", tool_calls=calls, invalid_tool_calls=invalid)


def _seconds(text: str) -> float | None:
    try:
        return max(0.0, float(text))
    except ValueError:
        return None
