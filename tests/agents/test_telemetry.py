"""Traces against a real collector: a small HTTP server that receives OTLP and decodes it."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from servers import Answer, answering
from test_llm_coder import ScriptedModel, client

from agents import telemetry

pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="the extra otel is not installed")


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    spans: list[Any] = []

    def collect(body: bytes, headers: Mapping[str, str]) -> Answer:
        request = ExportTraceServiceRequest.FromString(gzip.decompress(body) if headers.get("Content-Encoding") == "gzip" else body)
        spans.extend(span for part in request.resource_spans for scope in part.scope_spans for span in scope.spans)
        return Answer()

    with answering(collect) as url:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        telemetry.forget()
        yield spans
        telemetry.forget()


def ask(script: list[AIMessage]) -> None:
    asyncio.run(client(ScriptedModel(script=script), name="scripted:one").ask([HumanMessage("a secret prompt")]))


def test_model_call_is_a_span_by_the_conventions_and_holds_no_text(collector: list[Any]) -> None:
    usage = {"input_tokens": 5, "output_tokens": 7, "total_tokens": 12}
    with telemetry.span("kevolve.session", session_id="s1"):
        ask([AIMessage("a secret answer", usage_metadata=usage)])
    telemetry.flush()
    by_name = {span.name: span for span in collector}
    chat, session = by_name["chat scripted:one"], by_name["kevolve.session"]
    values = {item.key: item.value for item in chat.attributes}
    assert values["gen_ai.operation.name"].string_value == "chat" and values["gen_ai.request.model"].string_value == "scripted:one"
    assert values["gen_ai.usage.input_tokens"].int_value == 5 and values["gen_ai.usage.output_tokens"].int_value == 7
    assert chat.parent_span_id == session.span_id
    assert "secret" not in str(chat) + str(session)


def test_nothing_is_sent_without_an_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in telemetry.ENDPOINT_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    telemetry.forget()
    ask([AIMessage("fine")])
    assert not telemetry.is_wanted() and telemetry._tracer() is None
