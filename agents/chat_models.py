"""Chat models by name: `provider:name` through langchain, any OpenAI-compatible server, a spool directory, a recorded run.

Keys come from the environment only (`OPENAI_API_KEY`, `ANTHROPIC_API_KEY` … for providers, `KEVOLVE_API_KEY` for `openai-compatible`); they are in
no option, log, prompt or record.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, message_to_dict, messages_from_dict
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import PrivateAttr

from agents.config import ModelOptions
from agents.errors import ModelError, OptionError

logger = logging.getLogger(__name__)

POLL_S = 0.2
_MAY_PASS = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
"""HTTP states after which another try may succeed."""


def create_chat_model(options: ModelOptions) -> BaseChatModel:
    """Build a chat model.

    Raises:
        OptionError: The name is of no known form, or an option is missing.
        ModelError: A package or key is missing, or the recording cannot be read.
    """
    kind, _, rest = options.name.partition(":")
    if kind == "spool" and rest:
        return SpoolChatModel(directory=Path(rest).expanduser(), timeout_s=options.timeout_s)
    if kind == "replay" and rest:
        return ReplayChatModel(file=Path(rest).expanduser())
    if options.name == "openai-compatible":
        if not options.base_url:
            raise OptionError("--model openai-compatible needs --base-url, for example http://localhost:8000/v1")
        return OpenAICompatibleChatModel(
            base_url=options.base_url.rstrip("/"), model_id=options.model_id, timeout_s=options.timeout_s, retries=options.retries
        )
    if kind and rest:
        return _from_langchain(options)
    raise OptionError(f"unknown model {options.name!r}; known forms: provider:name, openai-compatible, spool:DIR, replay:FILE")


def digest_of(messages: Sequence[BaseMessage], tools: Sequence[Mapping[str, Any]] = ()) -> str:  # Any: JSON schema
    """Return 16 hexadecimal digits that name a request: its messages without ids, and its tools."""
    told = [_essence(message) for message in messages]
    return hashlib.sha256(json.dumps([told, list(tools)], sort_keys=True).encode()).hexdigest()[:16]


class _WithTools(BaseChatModel):
    """Binds tools in OpenAI's schema, which the models of this module take in that form."""

    def bind_tools(
        self, tools: Sequence[dict[str, Any] | type | Callable[..., Any] | Any], *, tool_choice: str | None = None, **kwargs: Any
    ) -> Runnable[Any, AIMessage]:
        """See `BaseChatModel.bind_tools`."""
        return self.bind(tools=[convert_to_openai_tool(tool) for tool in tools], **kwargs)


class SpoolChatModel(_WithTools):
    """Asks by file: `DIR/ID.request.json` holds the whole request; anybody may answer with `ID.answer.md` (text) or `ID.answer.json`.

    `ID.answer.json` is `{"content": "…", "tool_calls": [{"name": …, "args": {…}}]}`. A request that was answered before, by this process or an earlier one,
    is not asked again. Answer files should be moved into place, not written in place.
    """

    directory: Path
    timeout_s: float = 300.0
    _seen: Counter[str] = PrivateAttr(default_factory=Counter)

    @property
    def _llm_type(self) -> str:
        return "spool"

    def _generate(
        self, messages: list[BaseMessage], stop: list[str] | None = None, run_manager: CallbackManagerForLLMRun | None = None, **kwargs: Any
    ) -> ChatResult:
        tools = kwargs.get("tools", [])
        name = digest_of(messages, tools)
        request = self.directory / f"{name}.request.json"
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            if not request.exists():
                data = {"id": name, "messages": [_essence(message) for message in messages], "tools": tools}
                temporary = request.with_suffix(".tmp")
                temporary.write_text(json.dumps(data, indent=2), encoding="utf-8")
                temporary.replace(request)
            deadline = time.monotonic() + self.timeout_s
            while time.monotonic() < deadline:
                answer = self._answer(name)
                if answer is not None:
                    return ChatResult(generations=[ChatGeneration(message=answer)])
                time.sleep(POLL_S)
        except OSError as error:
            raise ModelError(f"cannot use the spool directory {self.directory}: {error.strerror}") from error
        raise ModelError(f"nobody answered {request} within {self.timeout_s:.0f} s; write {name}.answer.md beside it and resume the run")

    def _answer(self, name: str) -> AIMessage | None:
        text = self.directory / f"{name}.answer.md"
        if text.exists():
            return AIMessage(text.read_text(encoding="utf-8"))
        structured = self.directory / f"{name}.answer.json"
        if not structured.exists():
            return None
        try:
            data = json.loads(structured.read_text(encoding="utf-8"))
            calls = [
                {"name": str(call["name"]), "args": dict(call["args"]), "id": f"{name}-{index}"}
                for index, call in enumerate(data.get("tool_calls", []))
            ]
            return AIMessage(content=str(data.get("content", "")), tool_calls=calls)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ModelError(f"{structured} is no answer ({error}); it must be an object with content and tool_calls") from error


class ReplayChatModel(_WithTools):
    """Gives the answers of a recorded run (JSON lines of a transcript), each request its own; nothing is asked of anybody."""

    file: Path
    _answers: dict[str, list[AIMessage]] = PrivateAttr(default_factory=dict)
    _given: Counter[str] = PrivateAttr(default_factory=Counter)

    def model_post_init(self, context: Any, /) -> None:
        """Read the recording."""
        super().model_post_init(context)
        try:
            for line in self.file.read_text(encoding="utf-8").splitlines():
                entry = json.loads(line)
                (message,) = messages_from_dict([entry["answer"]])
                assert isinstance(message, AIMessage)
                self._answers.setdefault(entry["id"], []).append(message)
        except OSError as error:
            raise ModelError(f"cannot read the recording {self.file}: {error.strerror}") from error
        except (ValueError, KeyError, TypeError, AssertionError) as error:
            raise ModelError(f"{self.file} is not a recording of a run: {error}") from error

    @property
    def _llm_type(self) -> str:
        return "replay"

    def _generate(
        self, messages: list[BaseMessage], stop: list[str] | None = None, run_manager: CallbackManagerForLLMRun | None = None, **kwargs: Any
    ) -> ChatResult:
        name = digest_of(messages, kwargs.get("tools", []))
        answers = self._answers.get(name)
        if not answers:
            raise ModelError(f"the recording {self.file} holds no answer to request {name}: the run went another way than the recorded one")
        message = answers[min(self._given[name], len(answers) - 1)]
        self._given[name] += 1
        return ChatResult(generations=[ChatGeneration(message=message)])


class OpenAICompatibleChatModel(_WithTools):
    """Talks to any server with OpenAI's `/chat/completions`; retries what may pass, with back-off."""

    base_url: str
    model_id: str = ""
    timeout_s: float = 300.0
    retries: int = 3
    max_tokens: int | None = None

    @property
    def _llm_type(self) -> str:
        return "openai-compatible"

    def _generate(
        self, messages: list[BaseMessage], stop: list[str] | None = None, run_manager: CallbackManagerForLLMRun | None = None, **kwargs: Any
    ) -> ChatResult:
        from langchain_core.messages import convert_to_openai_messages

        if not self.model_id:
            listed = self._request("GET", "/models", None).get("data") or []
            if not listed:
                raise ModelError(f"the server {self.base_url} lists no model; name one with --model-id")
            self.model_id = str(listed[0]["id"])
        body: dict[str, Any] = {"model": self.model_id, "messages": convert_to_openai_messages(messages)}
        if kwargs.get("tools"):
            body["tools"] = kwargs["tools"]
        if stop:
            body["stop"] = stop
        if self.max_tokens:
            body["max_tokens"] = self.max_tokens
        answer = self._request("POST", "/chat/completions", body)
        try:
            message = _from_openai(answer["choices"][0]["message"])
        except (KeyError, IndexError, TypeError) as error:
            raise ModelError(f"the server {self.base_url} sent no answer: {json.dumps(answer)[:300]}") from error
        usage = answer.get("usage") or {}
        if "total_tokens" in usage:
            sent, total = int(usage.get("prompt_tokens", 0)), int(usage["total_tokens"])
            message.usage_metadata = {"input_tokens": sent, "output_tokens": total - sent, "total_tokens": total}
        return ChatResult(generations=[ChatGeneration(message=message)])

    def _request(self, method: str, path: str, body: Mapping[str, Any] | None) -> dict[str, Any]:  # Any: JSON
        import httpx

        key = os.environ.get("KEVOLVE_API_KEY") or os.environ.get("OPENAI_API_KEY")
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        problem = ""
        for attempt in range(self.retries + 1):
            if attempt:
                time.sleep(min(30.0, 0.5 * 2**attempt))
            try:
                response = httpx.request(method, self.base_url + path, json=body, headers=headers, timeout=self.timeout_s)
            except httpx.HTTPError as error:
                problem = f"{type(error).__name__}: {error}"
                continue
            if response.status_code < 400:
                try:
                    data = response.json()
                except ValueError as error:
                    raise ModelError(f"the server {self.base_url} did not answer in JSON: {response.text[:200]!r}") from error
                if not isinstance(data, dict):
                    raise ModelError(f"the server {self.base_url} did not answer with an object: {response.text[:200]!r}")
                return data
            problem = f"HTTP {response.status_code}: {response.text[:300]}"
            if response.status_code not in _MAY_PASS:
                break
        hint = (
            "set KEVOLVE_API_KEY"
            if "HTTP 401" in problem or "HTTP 403" in problem
            else "check that the server runs and --base-url is right"
        )
        raise ModelError(f"the model server {self.base_url} cannot be used: {problem}; {hint}")


def _from_openai(data: Mapping[str, Any]) -> AIMessage:  # Any: JSON
    """Read a message in OpenAI's form; tool calls whose arguments are no JSON object become invalid ones, with the text as it came."""
    calls, invalid = [], []
    for index, item in enumerate(data.get("tool_calls") or []):
        name, text, call_id = item["function"]["name"], item["function"].get("arguments") or "{}", item.get("id") or f"call-{index}"
        try:
            args = json.loads(text)
            if not isinstance(args, dict):
                raise ValueError("not an object")
            calls.append({"name": name, "args": args, "id": call_id})
        except ValueError as error:
            invalid.append({"name": name, "args": text, "id": call_id, "error": str(error)})
    return AIMessage(content=data.get("content") or "", tool_calls=calls, invalid_tool_calls=invalid)


def _from_langchain(options: ModelOptions) -> BaseChatModel:
    try:
        from langchain.chat_models import init_chat_model  # type: ignore[import-not-found,unused-ignore]  # an extra
    except ImportError as error:
        raise ModelError(
            f"--model {options.name} needs langchain: pip install langchain and the provider's package, for example langchain-openai"
        ) from error
    more: dict[str, Any] = {"timeout": options.timeout_s, "max_retries": options.retries}
    if options.base_url:
        more["base_url"] = options.base_url
    try:
        model = init_chat_model(options.name, **more)
    except ImportError as error:
        raise ModelError(f"--model {options.name} needs a package that is not installed: {error}") from error
    except Exception as error:  # providers raise errors of their own for a missing key or an unknown name
        raise ModelError(f"--model {options.name} cannot be set up: {error}") from error
    assert isinstance(model, BaseChatModel)
    return model


def _essence(message: BaseMessage) -> dict[str, Any]:
    """Return what a message says: role, text, tool calls; no ids and metadata that change from run to run."""
    data: dict[str, Any] = {"role": message.type, "content": message.content}
    if isinstance(message, AIMessage) and message.tool_calls:
        data["tool_calls"] = [{"name": call["name"], "args": call["args"]} for call in message.tool_calls]
    return data


class Transcript:
    """Appends every request and its answer to a file of JSON lines, which `replay:FILE` reads."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def add(self, messages: Sequence[BaseMessage], tools: Sequence[Mapping[str, Any]], answer: AIMessage) -> None:  # Any: JSON schema
        """Append one exchange."""
        entry = {
            "id": digest_of(messages, tools),
            "messages": [_essence(message) for message in messages],
            "tools": [tool["function"]["name"] for tool in tools],
            "answer": message_to_dict(answer),
        }
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with self.file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
