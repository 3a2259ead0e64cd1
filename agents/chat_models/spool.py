"""Ask by file: for people, for programs without an endpoint, and for machines without a network.

For each request `DIR/ID.prompt.md` (to read) and `DIR/ID.request.json` (the same for programs, with the schema of the tools) appear. Anybody may answer with
`ID.answer.md` (text, the code in a fenced block) or `ID.answer.json` (`{"content": "…", "tool_calls": [{"name": …, "args": {…}}]}`). A request that was answered before,
by this process or an earlier one, is not asked again. Move answer files into place; do not write them in place.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult

from agents.chat_models.calls import CallOutcome, ModelCallError
from agents.chat_models.requests import ToolBinding, digest_of, essence
from agents.prompts import render

POLL_S = 0.2


class SpoolChatModel(ToolBinding):
    """Writes requests to a directory and waits for answers there."""

    directory: Path
    timeout_s: float = 300.0

    @property
    def _llm_type(self) -> str:
        return "spool"

    def _generate(
        self, messages: list[BaseMessage], stop: list[str] | None = None, run_manager: CallbackManagerForLLMRun | None = None, **kwargs: Any
    ) -> ChatResult:
        tools = kwargs.get("tools", [])
        name = digest_of(messages, tools)
        try:
            self._ask(name, messages, tools)
            deadline = time.monotonic() + self.timeout_s
            while True:
                answer = self._answer(name)
                if answer is not None:
                    return ChatResult(generations=[ChatGeneration(message=answer)])
                if time.monotonic() >= deadline:
                    break
                time.sleep(POLL_S)
            strangers = self._strangers()
        except OSError as error:
            raise ModelCallError(f"cannot use the spool directory {self.directory}: {error.strerror}") from error
        hint = f" ({', '.join(strangers)} answer no request of this directory)" if strangers else ""
        raise ModelCallError(
            f"nobody answered {self.directory / name}.prompt.md within {self.timeout_s:.0f} s{hint}; write {name}.answer.md beside it and resume the run",
            CallOutcome.UNANSWERED,
        )

    def _ask(self, name: str, messages: list[BaseMessage], tools: list[Any]) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        told = [essence(message) for message in messages]
        shown = [dict(message) for message in told]
        called: list[str] = []
        for message in shown:
            called = [call["name"] for call in message.get("tool_calls", [])] or called
            if message["role"] == "tool" and called:
                message["tool"] = called.pop(0)
        prompt = render("spool_prompt.md", request=name, messages=shown, tools=[tool["function"] for tool in tools])
        request = json.dumps({"id": name, "messages": told, "tools": tools}, indent=2)
        for path, text in ((self.directory / f"{name}.prompt.md", prompt), (self.directory / f"{name}.request.json", request)):
            if not path.exists():
                temporary = path.with_name(f".{path.name}.new")
                temporary.write_text(text, encoding="utf-8")
                temporary.replace(path)

    def _answer(self, name: str) -> AIMessage | None:
        text = self.directory / f"{name}.answer.md"
        if text.exists():
            return AIMessage(text.read_text(encoding="utf-8", errors="replace"))
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
            raise ModelCallError(f"{structured} is no answer ({error}); it must be an object with content and tool_calls") from error

    def _strangers(self) -> list[str]:
        """Return answers to requests that were never asked here, at most three."""
        answers = sorted(path for pattern in ("*.answer.md", "*.answer.json") for path in self.directory.glob(pattern))
        return [path.name for path in answers if not (self.directory / f"{path.name.partition('.')[0]}.request.json").exists()][:3]
