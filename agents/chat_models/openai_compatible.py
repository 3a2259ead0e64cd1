"""Talk to any server with OpenAI's `/chat/completions`. One try a call: who asks decides about another."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.messages import AIMessage, BaseMessage, convert_to_openai_messages
from langchain_core.outputs import ChatGeneration, ChatResult

from agents.chat_models.calls import CallOutcome, ModelCallError
from agents.chat_models.keys import KEY_VARIABLE, find_key, scrub
from agents.chat_models.outcomes import outcome_of_status
from agents.chat_models.requests import ToolBinding

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

    @property
    def _llm_type(self) -> str:
        return "openai-compatible"

    def _generate(
        self, messages: list[BaseMessage], stop: list[str] | None = None, run_manager: CallbackManagerForLLMRun | None = None, **kwargs: Any
    ) -> ChatResult:
        if not self.model_id:
            listed = self._request("GET", "/models", None).get("data") or []
            if not listed:
                raise ModelCallError(f"the server {self.base_url} lists no model; name one with --model-id")
            self.model_id = str(listed[0]["id"])
        body: dict[str, Any] = {"model": self.model_id, "messages": convert_to_openai_messages(messages)}
        for name, value in (
            ("tools", kwargs.get("tools")),
            ("stop", stop),
            ("max_tokens", kwargs.get("max_tokens") or self.max_tokens),
            ("temperature", self.temperature),
        ):
            if value:
                body[name] = value
        answer = self._request("POST", "/chat/completions", body)
        try:
            choice = answer["choices"][0]
            message = message_from_openai(choice["message"])
        except (KeyError, IndexError, TypeError, AttributeError) as error:
            raise ModelCallError(f"the server {self.base_url} sent no answer: {json.dumps(answer)[:300]}") from error
        message.response_metadata["finish_reason"] = str(choice.get("finish_reason") or "")
        usage = answer.get("usage")
        if isinstance(usage, Mapping) and "total_tokens" in usage:
            sent, total = int(usage.get("prompt_tokens") or 0), int(usage["total_tokens"])
            message.usage_metadata = {"input_tokens": sent, "output_tokens": max(0, total - sent), "total_tokens": total}
        return ChatResult(generations=[ChatGeneration(message=message)])

    def _request(self, method: str, path: str, body: Mapping[str, Any] | None) -> dict[str, Any]:  # Any: JSON
        import httpx

        key = find_key(KEY_VARIABLE, "OPENAI_API_KEY")
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        deadline = time.monotonic() + self.timeout_s
        read = bytearray()
        try:
            with httpx.stream(method, self.base_url + path, json=body, headers=headers, timeout=self.timeout_s) as response:
                for part in response.iter_bytes():
                    read += part
                    if len(read) > MAX_ANSWER_BYTES:
                        raise ModelCallError(f"the answer of {self.base_url} has more than {MAX_ANSWER_BYTES} bytes", CallOutcome.CUT_OFF)
                    if time.monotonic() > deadline:
                        raise ModelCallError(
                            f"the answer of {self.base_url} had not ended after {self.timeout_s:.0f} s", CallOutcome.TIMED_OUT
                        )
        except httpx.TimeoutException as error:
            raise ModelCallError(f"{self.base_url} did not answer within {self.timeout_s:.0f} s", CallOutcome.TIMED_OUT) from error
        except httpx.HTTPError as error:
            raise ModelCallError(
                f"the model server {self.base_url} cannot be reached ({type(error).__name__}: {error}); check that the server runs and --base-url is right",
                CallOutcome.UNREACHABLE,
            ) from error
        text = bytes(read).decode("utf-8", errors="replace")
        if response.status_code >= 400:
            outcome = outcome_of_status(response.status_code, text)
            hint = f"; set {KEY_VARIABLE}" if outcome is CallOutcome.REFUSED_KEY else ""
            failure = ModelCallError(
                scrub(f"the model server {self.base_url} said HTTP {response.status_code}: {text[:500]}{hint}"), outcome
            )
            failure.retry_after_s = _seconds(response.headers.get("retry-after", ""))
            raise failure
        try:
            data = json.loads(text)
        except ValueError as error:
            raise ModelCallError(f"the server {self.base_url} did not answer in JSON: {text[:200]!r}") from error
        if not isinstance(data, dict):
            raise ModelCallError(f"the server {self.base_url} did not answer with an object: {text[:200]!r}")
        return data


def message_from_openai(data: Mapping[str, Any]) -> AIMessage:  # Any: JSON
    """Read a message in OpenAI's form; tool calls whose arguments are no JSON object become invalid ones, with the text as it came."""
    calls, invalid = [], []
    for index, item in enumerate(data.get("tool_calls") or []):
        name, text, call_id = item["function"]["name"], item["function"].get("arguments") or "{}", item.get("id") or f"call-{index}"
        try:
            args = text if isinstance(text, dict) else json.loads(text)
            if not isinstance(args, dict):
                raise ValueError("not an object")
            calls.append({"name": str(name), "args": args, "id": call_id})
        except ValueError as error:
            invalid.append({"name": str(name), "args": str(text), "id": call_id, "error": str(error)})
    content = data.get("content")
    return AIMessage(content=content if isinstance(content, str) else "", tool_calls=calls, invalid_tool_calls=invalid)


def _seconds(text: str) -> float | None:
    try:
        return max(0.0, float(text))
    except ValueError:
        return None
