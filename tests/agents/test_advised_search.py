"""A whole search with models in the roles beside the coder's: what they said is stored, counted and used; without use it harms nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from landscape import LandscapeEvaluator, WalkingCoder, config, machinery, search
from langchain_core.messages import AIMessage
from test_llm_coder import ScriptedModel, client

from agents.advisers import Advisers
from agents.chat_models.client import ChatClient
from agents.coders.base import CoderTask, Draft
from agents.config import ModelOptions


class Listening(WalkingCoder):
    """Walks, and keeps the diagnoses that it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[str] = []

    async def write(self, task: CoderTask) -> Draft:
        assert task.diagnosis is not None
        self.heard.append(task.diagnosis.summary)
        return await super().write(task)


def advised(home: Path, answer: str) -> tuple[Any, Any, Listening]:
    coder = Listening()
    asker = ChatClient(ScriptedModel(script=[AIMessage(answer)]), ModelOptions(name="scripted:x"), role="diagnosis")
    tools = machinery(LandscapeEvaluator(), coder, advisers=Advisers({"diagnosis": asker}))
    store, run_id, result = search(home, config("linear", 8, seed=3), tools)
    return store.events(run_id), result, coder


def test_advice_reaches_the_coder_and_every_request_is_counted(tmp_path: Path) -> None:
    answer = json.dumps({"bottleneck": "latency", "summary": "Launch less often.", "questions": ["launches"]})
    events, result, coder = advised(tmp_path, answer)
    said = [event.data for event in events if event.kind == "advised"]
    calls = [event.data for event in events if event.kind == "model_call"]
    assert calls and {call["role"] for call in calls} == {"diagnosis"}
    assert any(item["is_used"] for item in said) and any("Launch less often." in text for text in coder.heard)
    assert result["tokens"] == sum(call["input_tokens"] + call["output_tokens"] for call in calls)


@pytest.mark.parametrize("answer", ["", "no JSON", '{"bottleneck": 5}'])
def test_useless_advice_changes_nothing(tmp_path: Path, answer: str) -> None:
    events, result, coder = advised(tmp_path / "advised", answer)
    plain = Listening()
    _, _, without = search(tmp_path / "plain", config("linear", 8, seed=3), machinery(LandscapeEvaluator(), plain))
    assert coder.heard == plain.heard and not any(event.data["is_used"] for event in events if event.kind == "advised")
    assert result["best"]["fitness"] == without["best"]["fitness"]  # type: ignore[index]  # JSON


def test_adviser_that_is_down_leaves_the_rules_standing(tmp_path: Path) -> None:
    from agents.chat_models.openai_compatible import OpenAICompatibleChatModel

    down = client(OpenAICompatibleChatModel(base_url="http://127.0.0.1:9/v1", model_id="m", timeout_s=1), retries=0)
    tools = machinery(LandscapeEvaluator(), advisers=Advisers({"diagnosis": down}))
    store, run_id, result = search(tmp_path, config("linear", 6), tools)
    assert result["best"] is not None
    assert {event.data["outcome"] for event in store.events(run_id, "model_call")} == {"unreachable"}
