"""Asking chat models: typed outcomes against a real HTTP server, retries, rate, budget, prices, keys."""

from __future__ import annotations

import asyncio
import json
import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from servers import Answer, answering
from test_llm_coder import ScriptedModel, at_once

from agents.chat_models.calls import CallOutcome, ModelCall, ModelCallError, OpenMeter
from agents.chat_models.client import ChatClient, tokens_of
from agents.chat_models.keys import MASK, find_key, scrub
from agents.chat_models.openai_compatible import OpenAICompatibleChatModel
from agents.chat_models.outcomes import as_call_error
from agents.chat_models.prices import Price, PriceTable
from agents.chat_models.registry import create_chat_model
from agents.chat_models.transcript import Transcript
from agents.config import ModelOptions, RunConfig
from agents.errors import OptionError
from agents.metering import RunMeter
from agents.models_file import read_models
from agents.types import BudgetLeft

PRICE = Price(input=2.0, output=8.0, source="a test", date="2026-01-01", context_tokens=32_768, max_output_tokens=4_096)


class Endpoint:
    """An OpenAI-compatible server whose answers are set by the test: (HTTP status, body, headers), the last one again and again."""

    def __init__(self) -> None:
        self.url = ""
        self.answers: list[tuple[int, Any, dict[str, str]]] = []
        self.requests: list[dict[str, Any]] = []

    def answer(self, body: bytes, headers: Mapping[str, str]) -> Answer:
        self.requests.append(json.loads(body))
        status, said, more = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return Answer(said if isinstance(said, bytes) else json.dumps(said).encode(), status, more)


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    made = Endpoint()
    with answering(made.answer) as url:
        made.url = f"{url}/v1"
        yield made


def said(content: str | None, finish: str = "stop", **more: Any) -> tuple[int, Any, dict[str, str]]:
    usage = {"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 14}
    return 200, {"choices": [{"message": {"role": "assistant", "content": content, **more}, "finish_reason": finish}], "usage": usage}, {}


def ask(endpoint: Endpoint, meter: OpenMeter | None = None, tools: Any = (), **options: Any) -> AIMessage:
    model = OpenAICompatibleChatModel(base_url=endpoint.url, model_id="m", timeout_s=20)
    asker = ChatClient(model, ModelOptions(name="openai-compatible", model_id="m", **options), price=PRICE, sleep=at_once)
    return asyncio.run(asker.ask([HumanMessage("hello")], tools, meter))


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (said("fine"), CallOutcome.ANSWERED),
        (said(""), CallOutcome.EMPTY),
        (said(None), CallOutcome.EMPTY),
        (said("begun and", "length"), CallOutcome.CUT_OFF),
        (said(None, tool_calls=[{"id": "1", "function": {"name": "lint", "arguments": "{broken"}}]), CallOutcome.BROKEN_TOOL_CALL),
    ],
)
def test_odd_answer_is_in_the_ledger_under_its_own_name(endpoint: Endpoint, answer: Any, outcome: CallOutcome) -> None:
    endpoint.answers = [answer]
    meter = OpenMeter()
    ask(endpoint, meter)
    (call,) = meter.calls
    assert call.outcome is outcome and (call.input_tokens, call.output_tokens) == (10, 4) and not call.is_estimated
    assert call.dollars == pytest.approx((10 * 2.0 + 4 * 8.0) / 1e6)


@pytest.mark.parametrize(
    ("status", "body", "outcome", "tries"),
    [
        (401, {"error": "invalid api key"}, CallOutcome.REFUSED_KEY, 1),
        (403, {"error": "no access"}, CallOutcome.REFUSED_KEY, 1),
        (400, {"error": {"message": "This model's maximum context length is 4096 tokens", "code": "context_length_exceeded"}}, CallOutcome.CONTEXT_OVERFLOW, 1),
        (413, {"error": "too large"}, CallOutcome.CONTEXT_OVERFLOW, 1),
        (400, {"error": "tools are not supported by this model"}, CallOutcome.NO_TOOLS, 1),
        (400, {"error": "something else"}, CallOutcome.FAILED, 1),
        (429, {"error": "slow down"}, CallOutcome.RATE_LIMITED, 3),
        (503, {"error": "overloaded"}, CallOutcome.UNREACHABLE, 3),
        (504, {"error": "late"}, CallOutcome.TIMED_OUT, 3),
        (200, b"not json", CallOutcome.FAILED, 1),
        (200, {"choices": []}, CallOutcome.FAILED, 1),
    ],
)  # fmt: skip
def test_failure_has_a_type_and_every_try_is_counted(endpoint: Endpoint, status: int, body: Any, outcome: CallOutcome, tries: int) -> None:
    endpoint.answers = [(status, body, {})]
    meter = OpenMeter()
    with pytest.raises(ModelCallError) as caught:
        ask(endpoint, meter, retries=2)
    assert caught.value.outcome is outcome and pickle.loads(pickle.dumps(caught.value)).outcome is outcome
    assert [call.outcome for call in meter.calls] == [outcome] * tries and len(endpoint.requests) == tries


def test_failure_that_passes_is_retried_after_the_time_that_the_server_asks(endpoint: Endpoint) -> None:
    endpoint.answers = [(429, {}, {"Retry-After": "7"}), said("fine")]
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    model = OpenAICompatibleChatModel(base_url=endpoint.url, model_id="m", timeout_s=20)
    meter = OpenMeter()
    assert asyncio.run(ChatClient(model, ModelOptions(), sleep=sleep).ask([HumanMessage("x")], (), meter)).content == "fine"
    assert waits == [7.0] and [call.outcome.value for call in meter.calls] == ["rate_limited", "answered"]


def test_server_that_is_down_is_unreachable() -> None:
    model = OpenAICompatibleChatModel(base_url="http://127.0.0.1:9/v1", model_id="m", timeout_s=2)
    meter = OpenMeter()
    with pytest.raises(ModelCallError, match="check that the server runs"):
        asyncio.run(ChatClient(model, ModelOptions(retries=1), sleep=at_once).ask([HumanMessage("x")], (), meter))
    assert [call.outcome for call in meter.calls] == [CallOutcome.UNREACHABLE] * 2


def test_request_that_could_exceed_the_budget_is_not_sent(endpoint: Endpoint) -> None:
    endpoint.answers = [said("fine")]
    for left in (BudgetLeft(tokens=200), BudgetLeft(dollars=0.0001)):
        meter = OpenMeter(left)
        with pytest.raises(ModelCallError) as caught:
            ask(endpoint, meter)
        assert caught.value.outcome is CallOutcome.OVER_BUDGET and meter.calls[0].tokens == 0
    assert endpoint.requests == []
    ask(endpoint, OpenMeter(BudgetLeft(tokens=1000)))
    assert endpoint.requests[0]["max_tokens"] <= 1000, "the answer is limited to what is left"


def test_sessions_together_reserve_no_more_than_is_left() -> None:
    meter = RunMeter(lambda: BudgetLeft(tokens=1000), lambda *_: None, lambda _: None)
    assert meter.reserve("a", 600, 0.0) and not meter.reserve("b", 600, 0.0)
    meter.settle(ModelCall("a", "coder", "m", CallOutcome.ANSWERED, 10, 10))
    assert meter.reserve("b", 600, 0.0)


def test_rate_limit_spaces_requests(endpoint: Endpoint) -> None:
    endpoint.answers = [said("fine")]
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    model = OpenAICompatibleChatModel(base_url=endpoint.url, model_id="m", timeout_s=20)
    asker = ChatClient(model, ModelOptions(requests_per_minute=0.001), sleep=sleep)

    async def twice() -> None:
        await asker.ask([HumanMessage("x")])
        await asker.ask([HumanMessage("y")])

    asyncio.run(twice())
    assert len(waits) == 1 and waits[0] > 10_000


def test_provider_errors_are_told_apart_by_status_and_words() -> None:
    class RateLimitError(Exception):
        status_code = 429

    class APIConnectionError(Exception):
        pass

    assert as_call_error(RateLimitError("x")).outcome is CallOutcome.RATE_LIMITED
    assert as_call_error(APIConnectionError("x")).outcome is CallOutcome.UNREACHABLE
    assert as_call_error(TimeoutError()).outcome is CallOutcome.TIMED_OUT
    assert as_call_error(ValueError("prompt is too long: 9 tokens > 8 maximum")).outcome is CallOutcome.CONTEXT_OVERFLOW
    assert as_call_error(ValueError("odd")).outcome is CallOutcome.FAILED


def test_provider_name_goes_through_langchain(monkeypatch: pytest.MonkeyPatch, endpoint: Endpoint) -> None:
    pytest.importorskip("langchain_openai", reason="the extra openai is not installed")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test-0123456789abcdef")
    endpoint.answers = [said("from a provider")]
    options = ModelOptions(name="openai:gpt-test", base_url=endpoint.url, retries=0)
    model = create_chat_model(options)
    meter = OpenMeter()
    answer = asyncio.run(ChatClient(model, options).ask([HumanMessage("x")], (), meter))
    assert answer.content == "from a provider" and meter.calls[0].tokens == 14
    endpoint.answers = [(401, {"error": {"message": "Incorrect API key provided: sk-test-0123456789abcdef"}}, {})]
    with pytest.raises(ModelCallError) as caught:
        asyncio.run(ChatClient(model, options).ask([HumanMessage("x")], (), meter))
    assert caught.value.outcome is CallOutcome.REFUSED_KEY and "sk-test" not in str(caught.value)


def test_prices_come_with_source_and_date_and_the_users_own_lie_over_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KEVOLVE_PRICES", raising=False)
    table = PriceTable.load()
    price = table.find("openai:gpt-4.1-mini-2025-04-14")
    assert price is not None and price.input == 0.4 and price.source and price.date
    assert table.find("openai:unheard-of") is None and table.find("ollama:llama3") == Price(0.0, 0.0, "charges nothing per token", "")
    (tmp_path / "prices.yaml").write_text("prices:\n  gpt-4.1: {input: 1, output: 2, source: contract, date: 2026-02-03}\nfree: [mine]\n")
    own = PriceTable.load(tmp_path)
    assert own.find("gpt-4.1") == Price(1, 2, "contract", "2026-02-03") and own.find("mine:x") == Price(
        0, 0, "charges nothing per token", ""
    )
    assert own.find("anthropic:claude-haiku-4-5-20251001") == table.find("claude-haiku-4-5")


@pytest.mark.parametrize("text", ["[1]", "prices: [1]", "prices: {a: {input: 1}}", "prices: {a: {input: x, output: 1, source: s, date: d}}", "other: 1", "a: [", "prices: {a: {input: true, output: 1, source: s, date: d}}"])  # fmt: skip
def test_unusable_price_table_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "prices.yaml").write_text(text)
    with pytest.raises(OptionError):
        PriceTable.load(tmp_path)


def test_keys_come_from_the_environment_and_are_scrubbed_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEVOLVE_API_KEY", "my-private-value-1")
    assert find_key() == "my-private-value-1"
    text = "a my-private-value-1 b sk-ant-REDACTED-0123456789 c Bearer abcdefghijklmnop ghp_0123456789abcdefghij0123"
    assert scrub(text).count(MASK) == 4 and "private" not in scrub(text)
    transcript = Transcript(tmp_path / "t.jsonl")
    transcript.add([HumanMessage("my-private-value-1")], [], AIMessage("and sk-0123456789abcdefghij"))
    assert "private" not in transcript.file.read_text() and "sk-0123" not in transcript.file.read_text()


def test_roles_are_read_from_a_file_and_stored_with_the_run(tmp_path: Path) -> None:
    file = tmp_path / "models.yaml"
    file.write_text("coder: {timeout_s: 5}\ndiagnosis: anthropic:claude-haiku-4-5\ndeep_search: {name: ollama:x, context_tokens: 4096}\n")
    coder, roles = read_models(file, ModelOptions(name="spool:d"))
    assert coder == ModelOptions(name="spool:d", timeout_s=5) and roles["diagnosis"].name == "anthropic:claude-haiku-4-5"
    config = RunConfig(coder="llm", model=coder, role_models=roles)
    assert RunConfig.from_json(json.loads(json.dumps(config.to_json()))) == config


@pytest.mark.parametrize("text", ["- 1", "judge: x:y", "coder: {api_key: k}", "diagnosis: {timeout_s: 3}", "coder: {timeout_s: soon}", "coder: {timeout_s: -1}", "a: [", "coder: 5"])  # fmt: skip
def test_unusable_models_file_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "models.yaml"
    file.write_text(text)
    with pytest.raises(OptionError):
        read_models(file, ModelOptions())


def test_estimate_of_tokens_grows_with_tools() -> None:
    message = [HumanMessage("x" * 300)]
    assert tokens_of(message) >= 100 and tokens_of(message, [{"function": {"name": "f" * 300}}]) >= 200


def test_model_without_a_context_in_the_table_is_assumed_to_be_small() -> None:
    asker = ChatClient(ScriptedModel(script=[AIMessage("x")]), ModelOptions(name="x:y"))
    assert asker.input_tokens + asker.output_tokens == 32_768
