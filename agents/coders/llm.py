"""The coder that asks a chat model: one context-driven step, with tools in its session, or fenced code blocks for models without them.

A model's answer is never trusted: what it writes is a candidate like any other, and what it says about speed or correctness counts for nothing.
"""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from agents.chat_models.calls import CallOutcome, ModelCallError, OpenMeter
from agents.chat_models.client import ChatClient, outcome_of, text_of, tokens_of
from agents.chat_models.keys import scrub
from agents.coders.base import CoderTask, Draft
from agents.coders.prompt import Prompt, PromptTooLong, compose, language_of_target, language_text
from agents.coders.repair import calls_in, code_in, is_open, loose_object
from agents.coders.workspace import KERNEL, Workspace, tools_for
from agents.prompts import render
from agents.runs.records import Message
from agents.threads import in_thread
from tools.targets.mtia_model import TIME_MODEL
from tools.targets.registry import is_simulated
from tools.types import Candidate, Problem

if TYPE_CHECKING:
    from langchain_core.messages import AIMessage, BaseMessage

logger = logging.getLogger(__name__)

MAX_REMINDERS = 2
"""Times that a model which answers without code is asked again within one `write`."""
MAX_SHRINKS = 3
"""Times that a prompt which proves too long is composed anew at half its length."""
_TURNS_SHARE = 0.6
"""Share of a model's context that the first prompt may take; tool calls and their answers need the rest."""
_SYSTEM_TOKENS = 2_000
_LEAST_PROMPT_TOKENS = 256
_LEAST_DROPPED = 200
"""Texts of a conversation up to so many characters are never dropped."""

Lint = Callable[[Candidate, str], tuple[str, ...]]
Describe = Callable[[Problem, str], Awaitable[str]]


async def _unknown(problem: Problem, target: str) -> str:
    return ""


class LlmCoder:
    """Writes candidates with a chat model.

    Args:
        client: What asks the model.
        lint: Findings for a candidate on a target, one line each, for the tool `lint`.
        use_tools: False: ask for fenced code blocks even if the model could call tools.
        describe: Says what a problem computes, without sizes; see `Coder.signature`.
        amounts: Says what a problem moves and computes; called in a thread.
    """

    def __init__(
        self,
        client: ChatClient,
        *,
        lint: Lint = lambda candidate, target: (),
        use_tools: bool = True,
        describe: Describe = _unknown,
        amounts: Callable[[Problem], str] = lambda problem: "",
    ) -> None:
        self._client = client
        self._lint = lint
        self._use_tools = use_tools
        self._describe = describe
        self._amounts = amounts

    async def signature(self, problem: Problem, target: str) -> str:
        """See `Coder.signature`."""
        return await self._describe(problem, target)

    async def write(self, task: CoderTask) -> Draft:
        """See `Coder.write`."""
        own = None
        if task.meter is None:
            own = OpenMeter(task.budget_left)
            task = dataclasses.replace(task, meter=own)
        if not task.amounts:
            task = dataclasses.replace(task, amounts=await in_thread(lambda: self._amounts(task.problem)))
        limit = min(task.limits.prompt_tokens, int(self._client.input_tokens * _TURNS_SHARE) - _SYSTEM_TOKENS)
        for shrink in range(MAX_SHRINKS + 1):
            try:
                draft = await _Conversation(self._client, task, self._lint, limit, self._use_tools and self._client.can_use_tools()).hold()
                break
            except PromptTooLong as error:
                raise ModelCallError(str(error), CallOutcome.CONTEXT_OVERFLOW) from error
            except ModelCallError as error:
                if error.outcome is CallOutcome.OVER_BUDGET:
                    draft = Draft(candidate=None, exhausted=True, summary=str(error))
                    break
                if error.outcome is CallOutcome.CONTEXT_OVERFLOW and shrink < MAX_SHRINKS and limit // 2 >= _LEAST_PROMPT_TOKENS:
                    limit //= 2
                elif error.outcome is not CallOutcome.NO_TOOLS or shrink == MAX_SHRINKS:
                    raise
                logger.info("%s; asking again with at most %d tokens", error, limit)
        if own is None:
            return draft
        return dataclasses.replace(
            draft, tokens=sum(call.tokens for call in own.calls), dollars=sum(call.dollars or 0.0 for call in own.calls)
        )


class _Conversation:
    """One prompt and what follows from it, until a candidate is handed in or the steps are used up."""

    def __init__(self, client: ChatClient, task: CoderTask, lint: Lint, prompt_tokens: int, has_tools: bool) -> None:
        from langchain_core.messages import HumanMessage, SystemMessage

        self._client, self._task = client, task
        self._language = language_of_target(task.target)
        self._prompt: Prompt = compose(task, prompt_tokens)
        self._workspace = Workspace(task, lambda candidate: lint(candidate, task.target), self._language)
        self._tools = tools_for(task) if has_tools else []
        names = [tool["function"]["name"] for tool in self._tools]
        self._messages: list[BaseMessage] = [
            SystemMessage(
                render(
                    "coder_system.md",
                    language=language_text(self._language),
                    tools=names,
                    rules=render("rules.md"),
                    simulated=TIME_MODEL if is_simulated(task.target) else "",
                )
            ),
            HumanMessage(self._prompt.text),
        ]
        if self._prompt.left_out:
            logger.info("left out of the prompt for length: %s", "; ".join(self._prompt.left_out))

    async def hold(self) -> Draft:
        """Return what came of it."""
        from langchain_core.messages import HumanMessage

        task, workspace = self._task, self._workspace
        reminders = 0
        text = ""
        for step in range(task.limits.tool_steps):
            self._make_room()
            try:
                answer = await self._client.ask(
                    self._messages,
                    self._tools,
                    task.meter,
                    run_id=task.run_id,
                    session_id=task.session_id,
                    attempt=task.attempt,
                    step=step,
                    problem_id=task.problem.problem_id,
                    target=task.target,
                    left_out=list(self._prompt.left_out),
                )
            except ModelCallError as error:
                if workspace.is_written and error.outcome in (CallOutcome.OVER_BUDGET, CallOutcome.CONTEXT_OVERFLOW):
                    break
                raise
            text = text_of(answer)
            self._messages.append(answer)
            if await self._take_calls(answer, text):
                if workspace.submitted is not None:
                    break
                continue
            source = code_in(text)
            is_cut = outcome_of(answer) is CallOutcome.CUT_OFF and (source is None or is_open(text))
            if source is not None and (not is_cut or reminders == MAX_REMINDERS):
                await workspace.call("write_file", {"path": KERNEL, "content": source})
            if workspace.is_written or reminders == MAX_REMINDERS:
                break
            reminders += 1
            self._messages.append(HumanMessage(self._reminder(is_cut, text)))
        return self._draft(text)

    async def _take_calls(self, answer: AIMessage, text: str) -> bool:
        """Run the tools that an answer calls, in whatever form; return whether it called any."""
        from langchain_core.messages import HumanMessage, ToolMessage

        for call in answer.tool_calls:
            told = await self._workspace.call(call["name"], call["args"])
            self._messages.append(ToolMessage(told, tool_call_id=call["id"] or call["name"]))
        for broken in answer.invalid_tool_calls:
            name, repaired = str(broken["name"]), loose_object(broken["args"] or "")
            if repaired is not None:
                told = await self._workspace.call(name, repaired)
            else:
                told = f"The arguments of {name} are no JSON object ({broken['error']}); call it again, with line breaks in strings written as \\n."
            self._messages.append(ToolMessage(told, tool_call_id=broken["id"] or name or "call"))
        if answer.tool_calls or answer.invalid_tool_calls:
            return True
        written = calls_in(text, self._workspace.tool_names) if self._tools else []
        if written:
            results = [f"{name}: {await self._workspace.call(name, args)}" for name, args in written]
            self._messages.append(HumanMessage("Results of the tools that you called in your text:\n" + "\n".join(results)))
        return bool(written)

    def _make_room(self) -> None:
        """Shorten the longest old answers, the model's and the tools', while the conversation is longer than the model takes; the latest come last."""
        most = self._client.input_tokens
        while tokens_of(self._messages, self._tools) > most:
            long = [(index < len(self._messages) - 2, _length(message), index) for index, message in enumerate(self._messages) if index > 1]
            found = max((item for item in long if item[1] > _LEAST_DROPPED), default=None)
            if found is None:
                return
            self._messages[found[2]] = _shortened(self._messages[found[2]])

    def _reminder(self, is_cut: bool, text: str) -> str:
        if is_cut:
            return f"Your answer was cut off after {self._client.output_tokens} tokens. Give the whole file in one fenced block that begins with ```python, and nothing else."
        if not text.strip():
            return "Your answer was empty. Give the whole file in one fenced block that begins with ```python."
        return "There is no code in your answer. Give the whole file in one fenced block that begins with ```python."

    def _draft(self, text: str) -> Draft:
        workspace = self._workspace
        summary = workspace.submitted or " ".join(text.partition("```")[0].split())[:300]
        if workspace.is_written:
            source = workspace.files[KERNEL]
        else:
            source = "# The model wrote no code. It said:\n" + "\n".join(f"# {line}" for line in text[:2000].splitlines())
            summary = "the model wrote no code"
        provenance: dict[str, Any] = {"coder": "llm", "model": self._client.name}  # Any: JSON
        if self._prompt.left_out:
            provenance["left_out"] = list(self._prompt.left_out)
        if workspace.edited_ir:
            provenance["edited_ir"] = dict(workspace.edited_ir)
        return Draft(
            candidate=Candidate(source=source, language=self._language, provenance=provenance),
            summary=summary,
            chunk_ids=tuple(dict.fromkeys((*self._prompt.chunk_ids, *workspace.chunk_ids))),
            messages=tuple(Message(message.type, scrub(_whole_text(message))) for message in self._messages),
        )


def _length(message: BaseMessage) -> int:
    """Return how many characters of a message could be dropped."""
    arguments = [str(value) for call in getattr(message, "tool_calls", []) for value in call["args"].values()]
    return max([len(text_of(message)), *(len(value) for value in arguments)])


def _shortened(message: BaseMessage) -> BaseMessage:
    """Return a message without its long texts; which tools it called or answers stays."""
    from langchain_core.messages import AIMessage, HumanMessage, ToolMessage

    if isinstance(message, ToolMessage):
        return ToolMessage("[dropped for length; call the tool again if you need it]", tool_call_id=message.tool_call_id)

    def short(text: str, instead: str) -> str:
        return text if len(text) <= _LEAST_DROPPED else instead

    if isinstance(message, AIMessage):
        calls = [
            {
                **call,
                "args": {
                    key: short(str(value), f"[dropped for length; read_file returns {KERNEL}]") for key, value in call["args"].items()
                },
            }
            for call in message.tool_calls
        ]
        return AIMessage(short(text_of(message), "[dropped for length]"), tool_calls=calls)
    return HumanMessage(short(text_of(message), "[dropped for length]"))


def _whole_text(message: BaseMessage) -> str:
    calls = [{"name": call["name"], "args": call["args"]} for call in getattr(message, "tool_calls", [])]
    return text_of(message) + (f"\n{json.dumps({'tool_calls': calls})}" if calls else "")
