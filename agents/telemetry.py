"""Traces of runs and model calls as OpenTelemetry spans, with the GenAI conventions, where an endpoint is set; nothing at all where none is.

Set `OTEL_EXPORTER_OTLP_ENDPOINT` (or `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`) and install the extra `otel`. Spans hold names, counts and outcomes; no prompt, answer or key.
Conventions: OpenTelemetry semantic conventions for generative AI (`gen_ai.*`), https://opentelemetry.io/docs/specs/semconv/gen-ai/.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from agents.chat_models.calls import ModelCall

logger = logging.getLogger(__name__)

ENDPOINT_VARIABLES = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


class CallSpan(Protocol):
    """An open span of a model call."""

    def end(self, call: ModelCall) -> None:
        """Write down what became of the call."""


class _NoSpan:
    def end(self, call: ModelCall) -> None:
        """Write nothing."""


class _Span:
    def __init__(self, span: Any) -> None:  # Any: an OpenTelemetry span; the package is an extra
        self._span = span

    def end(self, call: ModelCall) -> None:
        """Write down what became of the call."""
        from opentelemetry.trace import Status, StatusCode

        self._span.set_attribute("gen_ai.usage.input_tokens", call.input_tokens)
        self._span.set_attribute("gen_ai.usage.output_tokens", call.output_tokens)
        self._span.set_attribute("gen_ai.response.finish_reasons", [call.outcome.value])
        if call.dollars is not None:
            self._span.set_attribute("kevolve.dollars", call.dollars)
        if call.detail:
            self._span.set_attribute("error.type", call.outcome.value)
            self._span.set_status(Status(StatusCode.ERROR, call.detail[:200]))


def is_wanted() -> bool:
    """Return whether an endpoint is set."""
    return any(os.environ.get(name, "").strip() for name in ENDPOINT_VARIABLES)


@cache
def _tracer() -> Any:  # Any: an OpenTelemetry tracer; None without an endpoint or the package
    if not is_wanted():
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        logger.warning("traces are wanted but the packages are missing: pip install 'kernelevolve[otel]'")
        return None
    name = os.environ.get("OTEL_SERVICE_NAME", "kernelevolve")
    provider = TracerProvider(resource=Resource.create({"service.name": name}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    # The SDK flushes at the end of the process; `flush` does it sooner.
    _providers.append(provider)
    return provider.get_tracer("kernelevolve")


_providers: list[Any] = []  # Any: tracer providers


def flush(timeout_s: float = 10.0) -> None:
    """Send what has not been sent yet."""
    for provider in _providers:
        provider.force_flush(int(timeout_s * 1000))


def forget() -> None:
    """Send what is left and stop tracing until the endpoint is looked at anew."""
    for provider in _providers:
        provider.shutdown()
    _providers.clear()
    _tracer.cache_clear()


@contextmanager
def span(name: str, **attributes: str | int | float | bool) -> Iterator[None]:
    """Trace a piece of work under `name`; attributes get the prefix `kevolve.`."""
    tracer = _tracer()
    if tracer is None:
        yield
        return
    with tracer.start_as_current_span(name, attributes={f"kevolve.{key}": value for key, value in attributes.items()}):
        yield


@contextmanager
def model_call(model: str, role: str, system: str, call_id: str) -> Iterator[CallSpan]:
    """Trace one request to a chat model."""
    tracer = _tracer()
    if tracer is None:
        yield _NoSpan()
        return
    attributes = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": system,
        "gen_ai.request.model": model,
        "gen_ai.agent.name": role,
        "kevolve.call_id": call_id,
    }
    from opentelemetry.trace import SpanKind

    with tracer.start_as_current_span(f"chat {model}", kind=SpanKind.CLIENT, attributes=attributes) as opened:
        yield _Span(opened)
