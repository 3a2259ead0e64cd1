"""Answers taken in while they are written, against a real HTTP server: the same message, usage and outcomes as in one piece, and a ledger that is right when somebody gives up."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from landscape import PROBLEM as LANDSCAPE_PROBLEM
from landscape import LandscapeEvaluator, config, machinery
from langchain_core.messages import AIMessage, HumanMessage
from servers import Answer, answering
from test_llm_coder import KERNEL, ScriptedModel

from agents.chat_models.calls import CallOutcome, ModelCallError, OpenMeter
from agents.chat_models.client import ChatClient
from agents.chat_models.openai_compatible import OpenAICompatibleChatModel
from agents.chat_models.registry import create_client
from agents.coders.llm import LlmCoder
from agents.config import ModelOptions
from agents.driver import create_run, drive
from agents.errors import OptionError
from agents.models_file import read_models
from agents.runs.records import Event
from agents.runs.store import RunStore


class StreamingEndpoint:
    """Sends events as the test lists them; waits at the end while `hold` is set and not released."""

    def __init__(self) -> None:
        self.url = ""
        self.events: list[Any] = []
        self.refuse: dict[str, Any] | None = None
        self.requests: list[dict[str, Any]] = []
        self.release = threading.Event()
        self.release.set()

    def answer(self, body: bytes, headers: Mapping[str, str]) -> Answer:
        asked = json.loads(body)
        self.requests.append(asked)
        if asked.get("stream") and self.refuse is not None:
            return Answer(json.dumps(self.refuse).encode(), 400)
        if not asked.get("stream"):
            whole = {"choices": [{"message": {"role": "assistant", "content": "in one piece"}, "finish_reason": "stop"}]}
            return Answer(json.dumps(whole).encode())
        return Answer(self._stream(), headers={"Content-Type": "text/event-stream"})

    def _stream(self) -> Iterator[bytes]:
        for event in self.events:
            yield f"{event if isinstance(event, str) else f'data: {json.dumps(event)}'}\n\n".encode()
        self.release.wait(60)


@pytest.fixture
def endpoint() -> Iterator[StreamingEndpoint]:
    made = StreamingEndpoint()
    with answering(made.answer) as url:
        made.url = f"{url}/v1"
        yield made
        made.release.set()


def text(piece: str, finish: str | None = None) -> dict[str, Any]:
    return {"choices": [{"delta": {"content": piece}, "finish_reason": finish}]}


USAGE = {"choices": [], "usage": {"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 14}}


def tool(arguments: str, name: str | None = None) -> dict[str, Any]:
    item = {"index": 0, "function": {"name": name, "arguments": arguments}, **({"id": "c1"} if name else {})}
    return {"choices": [{"delta": {"tool_calls": [item]}}]}


class HearingMeter(OpenMeter):
    def __init__(self) -> None:
        super().__init__()
        self.said: list[tuple[str, int]] = []

    def heard(self, role: str, tokens: int) -> None:
        self.said.append((role, tokens))


def client_of(endpoint: StreamingEndpoint) -> ChatClient:
    return ChatClient(OpenAICompatibleChatModel(base_url=endpoint.url, model_id="m", timeout_s=30), ModelOptions(stream=True, retries=0))


def ask(endpoint: StreamingEndpoint, meter: OpenMeter) -> AIMessage:
    return asyncio.run(client_of(endpoint).ask([HumanMessage("hello")], (), meter))


def test_pieces_add_up_to_the_answer_and_the_servers_own_count_is_booked(endpoint: StreamingEndpoint) -> None:
    endpoint.events = [text("one "), text("two", "stop"), USAGE, "data: [DONE]"]
    meter = HearingMeter()
    answer = ask(endpoint, meter)
    (call,) = meter.calls
    assert answer.content == "one two" and answer.response_metadata["finish_reason"] == "stop"
    assert (call.input_tokens, call.output_tokens, call.is_estimated, call.outcome) == (10, 4, False, CallOutcome.ANSWERED)
    assert [tokens for _, tokens in meter.said] == sorted(tokens for _, tokens in meter.said) and meter.said[0] == ("coder", 2)
    assert endpoint.requests[0]["stream_options"] == {"include_usage": True}


@pytest.mark.parametrize(
    ("events", "outcome"),
    [
        ([text(""), USAGE], CallOutcome.EMPTY),
        ([text("begun and", "length"), USAGE], CallOutcome.CUT_OFF),
        ([tool('{"path": "ker', "write_file"), USAGE], CallOutcome.BROKEN_TOOL_CALL),
        ([tool('{"path": "ker', "read_file"), tool('nel.py"}'), USAGE], CallOutcome.ANSWERED),
    ],
)
def test_outcomes_are_those_of_an_answer_in_one_piece(endpoint: StreamingEndpoint, events: list[Any], outcome: CallOutcome) -> None:
    endpoint.events = events
    meter = OpenMeter()
    answer = ask(endpoint, meter)
    assert meter.calls[0].outcome is outcome
    if outcome is CallOutcome.ANSWERED:
        assert answer.tool_calls[0]["args"] == {"path": "kernel.py"} and answer.tool_calls[0]["id"] == "c1"


def test_server_that_refuses_streams_is_asked_in_one_piece_and_not_again(endpoint: StreamingEndpoint) -> None:
    endpoint.refuse = {"error": "unknown field stream_options"}
    model = client_of(endpoint)
    for _ in range(2):
        assert asyncio.run(model.ask([HumanMessage("x")])).content == "in one piece"
    assert [bool(asked.get("stream")) for asked in endpoint.requests] == [True, False, False]


def test_other_refusals_keep_their_outcome(endpoint: StreamingEndpoint) -> None:
    endpoint.refuse = {"error": {"message": "This model's maximum context length is 4096 tokens"}}
    with pytest.raises(ModelCallError) as caught:
        ask(endpoint, OpenMeter())
    assert caught.value.outcome is CallOutcome.CONTEXT_OVERFLOW


@pytest.mark.parametrize("event", ["data: {broken", 'data: {"error": {"message": "out of memory"}}', 'data: {"choices": [7]}'])
def test_broken_stream_fails_with_what_had_come_counted(endpoint: StreamingEndpoint, event: str) -> None:
    endpoint.events = [text("a piece of nine"), event]
    meter = OpenMeter()
    with pytest.raises(ModelCallError):
        ask(endpoint, meter)
    assert meter.calls[0].output_tokens == 5 and meter.calls[0].is_estimated and meter.calls[0].input_tokens > 0


def test_model_that_cannot_stream_answers_in_one_piece() -> None:
    meter = OpenMeter()
    model = ChatClient(ScriptedModel(script=[AIMessage("whole")]), ModelOptions(stream=True))
    assert asyncio.run(model.ask([HumanMessage("x")], (), meter)).content == "whole"
    assert meter.calls[0].outcome is CallOutcome.ANSWERED


def test_giving_up_in_the_middle_of_an_answer_books_it_and_leaves_the_run_open(endpoint: StreamingEndpoint, tmp_path: Path) -> None:
    endpoint.events = [text("x" * 300), text("y" * 300)]
    endpoint.release.clear()
    shown: list[Event] = []

    async def run_and_give_up() -> str:
        enough = asyncio.Event()

        def report(event: Event) -> None:
            shown.append(event)
            if event.kind == "answering" and event.data["tokens"] >= 200:
                enough.set()

        coder = LlmCoder(client_of(endpoint))
        with RunStore(tmp_path) as store:
            run_id = create_run(store, LANDSCAPE_PROBLEM, "cpu", config("one_shot", 4))
            task = asyncio.create_task(drive(store, run_id, machinery(LandscapeEvaluator(), coder, report=report)))  # type: ignore[arg-type]  # another coder
            await asyncio.wait_for(enough.wait(), 60)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        return run_id

    run_id = asyncio.run(run_and_give_up())
    with RunStore(tmp_path) as store:
        (call,) = [event.data for event in store.events(run_id, "model_call")]
        assert call["output_tokens"] == 200 and call["is_estimated"] and call["detail"] == "given up"
        assert store.spent(run_id).tokens == call["input_tokens"] + 200
        assert store.run(run_id).result is None, "it can be resumed"
        assert not list(store.events(run_id, "answering")), "progress is shown and not kept"
        # Resumed with a server that answers, the run ends, and what was booked stays booked.
        endpoint.events, endpoint.requests = [text(f"```python\n{KERNEL}```", "stop"), USAGE], []
        endpoint.release.set()
        store.acquire(run_id)
        result = asyncio.run(drive(store, run_id, machinery(LandscapeEvaluator(), LlmCoder(client_of(endpoint)))))  # type: ignore[arg-type]  # another coder
        assert result["best"] is not None and result["tokens"] == call["input_tokens"] + 200 + 14 * len(endpoint.requests)


def test_streaming_is_the_default_of_compatible_servers_and_an_option_of_others(tmp_path: Path) -> None:
    assert create_client(ModelOptions(name="openai-compatible", base_url="http://127.0.0.1:9/v1"), "coder").options.stream
    assert not create_client(ModelOptions(name=f"spool:{tmp_path}"), "coder").options.stream
    file = tmp_path / "models.yaml"
    file.write_text("coder: {name: 'openai:x', stream: true}\n")
    assert read_models(file, ModelOptions())[0].stream is True
    file.write_text("coder: {name: 'openai:x', stream: 1}\n")
    with pytest.raises(OptionError, match="true or false"):
        read_models(file, ModelOptions())
