"""The coder that asks a chat model: one context-driven step, with tools in its session, or fenced code blocks for models without them.

A model's answer is never trusted: what it writes is a candidate like any other, and what it says about speed or correctness counts for nothing.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from agents.coders.base import CoderTask, Draft
from agents.coders.prompt import CHARACTERS_PER_TOKEN, compose
from agents.coders.workspace import KERNEL, TOOLS, Workspace
from agents.errors import AgentsError, ModelError
from agents.prompts import render
from tools.types import Candidate, Problem

if TYPE_CHECKING:
    from langchain_core.language_models.chat_models import BaseChatModel
    from langchain_core.messages import AIMessage, BaseMessage

    from agents.chat_models import Transcript

logger = logging.getLogger(__name__)

_FENCE = re.compile(r"```[ \t]*([\w+-]*)[^\n]*\n(.*?)(?:\n```|\Z)", re.DOTALL)
MAX_REMINDERS = 2
"""Times that a model which answers without code is asked again within one `write`."""


class LlmCoder:
    """Writes candidates with a chat model.

    Args:
        model: Any langchain-core chat model.
        lint: Findings for a candidate on a target, one line each, for the tool `lint`.
        transcript: Where every exchange is kept; None: nowhere.
        use_tools: False: ask for fenced code blocks even if the model could call tools.
    """

    def __init__(
        self,
        model: BaseChatModel,
        *,
        lint: Callable[[Candidate, str], tuple[str, ...]] = lambda candidate, target: (),
        transcript: Transcript | None = None,
        use_tools: bool = True,
    ) -> None:
        self._model = model
        self._lint = lint
        self._transcript = transcript
        self._bound: Any = None  # Any: a Runnable over langchain's message types
        if use_tools:
            try:
                self._bound = model.bind_tools(list(TOOLS))
            except NotImplementedError:
                logger.info("the model calls no tools; asking for fenced code blocks")

    async def signature(self, problem: Problem, target: str) -> str:
        """See `Coder.signature`: unknown without capturing the reference."""
        return ""

    async def write(self, task: CoderTask) -> Draft:
        """See `Coder.write`."""
        from langchain_core.messages import HumanMessage, SystemMessage, ToolMessage

        language = "cpp" if task.target.partition(":")[0] == "cpu" else "triton"
        described = "C++ (compiled with torch's extension builder)" if language == "cpp" else "Triton"
        prompt = compose(task)
        if prompt.left_out:
            logger.info("left out of the prompt for length: %s", ", ".join(prompt.left_out))
        workspace = Workspace(task, lambda candidate: self._lint(candidate, task.target), language)
        messages: list[BaseMessage] = [
            SystemMessage(render("coder_system.md", language=described, has_tools=self._bound is not None)),
            HumanMessage(prompt.text),
        ]
        tokens = reminders = 0
        text = ""
        for _ in range(task.limits.tool_steps):
            estimate = sum(len(str(message.content)) for message in messages) // CHARACTERS_PER_TOKEN
            if task.budget_left.tokens is not None and tokens + estimate >= task.budget_left.tokens:
                logger.info("the token budget does not allow another question")
                break
            answer = await self._ask(messages)
            usage = answer.usage_metadata
            text = _text_of(answer)
            tokens += usage["total_tokens"] if usage else estimate + len(text) // CHARACTERS_PER_TOKEN
            messages.append(answer)
            for call in answer.tool_calls:
                messages.append(ToolMessage(workspace.call(call["name"], call["args"]), tool_call_id=call["id"] or call["name"]))
            for broken in answer.invalid_tool_calls:
                reason = f"The arguments of {broken['name']} are no JSON object ({broken['error']}); call it again."
                messages.append(ToolMessage(reason, tool_call_id=broken["id"] or broken["name"] or "call"))
            if workspace.submitted is not None:
                break
            if answer.tool_calls or answer.invalid_tool_calls:
                continue
            source = code_in(text)
            if source is not None:
                workspace.call("write_file", {"path": KERNEL, "content": source})
            if workspace.is_written or reminders == MAX_REMINDERS:
                break
            reminders += 1
            messages.append(
                HumanMessage("There is no code in your answer. Give the whole file in one fenced block that begins with ```python.")
            )
        summary = workspace.submitted or _summary(text)
        if workspace.is_written:
            source = workspace.files[KERNEL]
        else:
            source = "# The model wrote no code. It said:\n" + "\n".join(f"# {line}" for line in text[:2000].splitlines())
            summary = "the model wrote no code"
        return Draft(
            candidate=Candidate(source=source, language=language, provenance={"coder": "llm", "model": self._model._llm_type}),
            summary=summary,
            chunk_ids=tuple(dict.fromkeys((*prompt.chunk_ids, *workspace.chunk_ids))),
            tokens=tokens,
        )

    async def _ask(self, messages: list[BaseMessage]) -> AIMessage:
        try:
            answer: AIMessage = await (self._bound or self._model).ainvoke(messages)
        except AgentsError:
            raise
        except Exception as error:  # the outside begins here: each provider raises errors of its own
            raise ModelError(f"the chat model failed: {type(error).__name__}: {error}") from error
        if self._transcript is not None:
            self._transcript.add(messages, list(TOOLS) if self._bound is not None else [], answer)
        return answer


def code_in(text: str) -> str | None:
    """Return the Python source in an answer: the longest fenced block that defines `ModelNew`, else the longest Python block; None without any."""
    blocks: list[tuple[str, str]] = [(found[1].lower(), found[2]) for found in _FENCE.finditer(text) if found[2].strip()]
    fitting = [body for _, body in blocks if "class ModelNew" in body]
    python = fitting or [body for language, body in blocks if language in ("python", "py", "")]
    if python:
        return max(python, key=len).rstrip() + "\n"
    return text.strip() + "\n" if "class ModelNew" in text and "import torch" in text else None


def _text_of(answer: AIMessage) -> str:
    return answer.text if isinstance(answer.text, str) else str(answer.content)


def _summary(text: str) -> str:
    before = text.partition("```")[0].strip()
    return " ".join(before.split())[:300]
