"""Every request of every recorded session, and of sessions made as long as they can get, fits into a model with a context of 32k tokens."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from landscape import PROBLEM
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from test_llm_coder import KERNEL, ScriptedModel, call, client

from agents.chat_models.client import tokens_of
from agents.chat_models.registry import create_chat_model
from agents.chat_models.replay import ReplayChatModel
from agents.coders.base import CoderTask
from agents.coders.llm import LlmCoder
from agents.coders.repair import loose_object
from agents.coders.workspace import tools_for
from agents.config import ModelOptions
from agents.types import Limits

CONTEXT = 32_768
RECORDED = sorted((Path(__file__).resolve().parents[2] / "evaluation" / "results" / "spool").glob("round*/*.*.jsonl"))


def requests(path: Path) -> Iterator[list[BaseMessage]]:
    kinds: dict[str, Any] = {
        "system": SystemMessage,
        "human": HumanMessage,
        "ai": AIMessage,
        "tool": partial(ToolMessage, tool_call_id="x"),
    }
    for line in path.read_text(encoding="utf-8").splitlines():
        told = json.loads(line)["messages"]
        calls = [[{**call, "id": "x"} for call in message.get("tool_calls", [])] for message in told]
        more = [{"tool_calls": named} if named else {} for named in calls]
        yield [kinds[message["role"]](message["content"], **with_calls) for message, with_calls in zip(told, more, strict=True)]


def test_recordings_are_there() -> None:
    assert len(RECORDED) >= 28


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_recording_is_what_replay_reads_and_holds_no_place_of_its_machine(path: Path) -> None:
    model = create_chat_model(ModelOptions(name=f"replay:{path}"))
    entries = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    answers = [entry["answer"]["data"] for entry in entries if entry["role"] == "coder"]
    assert isinstance(model, ReplayChatModel) and answers
    assert all(answer["tool_calls"] or "class ModelNew" in answer["content"] for answer in answers)
    assert all(loose_object(entry["answer"]["data"]["content"]) for entry in entries if entry["role"] != "coder")
    assert "/tmp/" not in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_recorded_request_fits_with_its_tools_and_the_longest_answer(path: Path) -> None:
    tools = tools_for(CoderTask(PROBLEM, "cpu", base=object(), instruments=object()))  # type: ignore[arg-type]  # only whether they are there is asked
    asker = client(ScriptedModel(script=[AIMessage("x")]), context_tokens=CONTEXT)
    for messages in requests(path):
        assert tokens_of(messages, tools) + asker.output_tokens <= CONTEXT


PROMPTS = sorted((Path(__file__).resolve().parents[2] / "agents" / "prompts").glob("*.md"))
TELLING = re.compile(
    r"1\.?0?e-0?[1-9]|0\.0\d+\b(?!f)|\b[ar]tol\b|allclose|rmse|root mean square|value_seeds|calibrat|\b(?:seed|seeds) (?:is|are|of)\b",
    re.IGNORECASE,
)


@pytest.mark.parametrize("path", PROMPTS, ids=lambda path: path.stem)
def test_no_prompt_tells_how_the_checker_decides(path: Path) -> None:
    """Tolerances, seeds and measures of error are the checker's own; a bound that is known is a bound that is aimed at."""
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert not TELLING.search(text), TELLING.search(text)


def test_words_that_would_tell_are_recognised() -> None:
    for leak in ("within 1e-4 of the reference", "atol=0.001", "torch.allclose decides", "the seed is 42", "the root mean square error"):
        assert TELLING.search(leak)


@pytest.mark.parametrize("long", [0, 5_000, 30_000])
def test_session_of_many_long_tool_calls_never_asks_beyond_the_context(long: int) -> None:
    """Reads, rewrites and lint reports of a long file, to the last step: the oldest are dropped, the prompt and the latest stay."""
    code = KERNEL + "# a comment\n" * (long // 12)
    step = [call("write_file", path="kernel.py", content=code), call("read_file", path="kernel.py"), call("lint")]
    model = ScriptedModel(script=[answer.model_copy() for _ in range(10) for answer in step])
    asker = client(model, context_tokens=CONTEXT)
    task = CoderTask(PROBLEM, "cuda:sm_90", limits=Limits(tool_steps=30))
    draft = asyncio.run(LlmCoder(asker, lint=lambda candidate, target: ("L01 " + "x" * long,)).write(task))
    tools = tools_for(task)
    assert len(model.asked) == 30 and draft.candidate is not None and draft.candidate.source == code
    assert max(tokens_of(asked, tools) for asked in model.asked) <= asker.input_tokens
    assert all(asked[1].content == model.asked[0][1].content for asked in model.asked), "the prompt itself is never dropped"
