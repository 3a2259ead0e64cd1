"""The one way to ask a chat model: within its context and the budget, in its rate, again after failures that may pass, every request in the ledger."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from agents import telemetry
from agents.chat_models.calls import MAY_PASS, CallOutcome, Meter, ModelCall, ModelCallError, OpenMeter
from agents.chat_models.keys import scrub
from agents.chat_models.outcomes import as_call_error
from agents.chat_models.prices import DEFAULT_CONTEXT_TOKENS, DEFAULT_OUTPUT_TOKENS, Price
from agents.chat_models.requests import storable
from agents.chat_models.sizes import BYTES_PER_TOKEN, text_of, tokens_of
from agents.chat_models.streaming import Progress, streamed
from agents.config import ModelOptions

if TYPE_CHECKING:
    from langchain_core.language_models.chat_models import BaseChatModel
    from langchain_core.messages import AIMessage, BaseMessage

    from agents.chat_models.transcript import Transcript

logger = logging.getLogger(__name__)

LEAST_OUTPUT_TOKENS = 256
"""With less than this affordable for an answer, nothing is asked."""
MAX_BACK_OFF_S = 60.0
_GRACE_S = 30.0
"""Beyond its own time limit a model is given so much to end by itself."""


class ChatClient:
    """Asks one model in one role. Used by several sessions at the same time.

    Args:
        model: Any langchain-core chat model.
        options: Its limits.
        role: What it is asked as, for the ledger.
        price: Its price and size; None: unknown.
        transcript: Where every exchange is kept; None: nowhere.
        sleep: Waits so many seconds; replaced in tests.
    """

    def __init__(
        self,
        model: BaseChatModel,
        options: ModelOptions | None = None,
        *,
        role: str = "coder",
        price: Price | None = None,
        transcript: Transcript | None = None,
        sleep: Any = asyncio.sleep,  # Any: a coroutine function of one number
    ) -> None:
        self.model = model
        self.options = options or ModelOptions()
        self.role = role
        self.price = price
        self._transcript = transcript
        self._sleep = sleep
        self._next = 0.0
        self._has_tools = True
        sizes = price if price is not None and price.source else None
        self.context_tokens = self.options.context_tokens or (sizes.context_tokens if sizes else DEFAULT_CONTEXT_TOKENS)
        most = self.options.max_output_tokens or min(DEFAULT_OUTPUT_TOKENS, sizes.max_output_tokens if sizes else DEFAULT_OUTPUT_TOKENS)
        self.output_tokens = min(most, self.context_tokens // 2)

    @property
    def name(self) -> str:
        """The model's name, for the ledger."""
        return self.options.model_id or str(getattr(self.model, "model_id", "")) or self.options.name or self.model._llm_type

    @property
    def input_tokens(self) -> int:
        """Most tokens that a request may have, so that an answer still fits."""
        return self.context_tokens - self.output_tokens

    def can_use_tools(self) -> bool:
        """Return whether the model takes tools, as far as is known."""
        if self._has_tools:
            try:
                self.model.bind_tools([])
            except (NotImplementedError, ImportError):
                self._has_tools = False
        return self._has_tools

    async def ask(
        self,
        messages: Sequence[BaseMessage],
        tools: Sequence[Mapping[str, Any]] = (),  # Any: JSON schema
        meter: Meter | None = None,
        **about: Any,  # JSON for the transcript
    ) -> AIMessage:
        """Return the model's answer; what is odd about it (empty, cut off) is in the ledger and in `finish_reason`.

        Raises:
            ModelCallError: It failed for good; `outcome` says how. The ledger has every try.
        """
        meter = meter or OpenMeter()
        asked: Any = (
            self.model.bind_tools([dict(tool) for tool in tools]) if tools else self.model
        )  # Any: a Runnable over langchain's message types
        expected = tokens_of(messages, tools)
        for attempt in range(self.options.retries + 1):
            call_id = uuid.uuid4().hex
            most = self._affordable(meter, expected)
            most_dollars = self.price.dollars(expected, most) if self.price else 0.0
            if most < min(LEAST_OUTPUT_TOKENS, self.output_tokens) or not meter.reserve(call_id, expected + most, most_dollars):
                detail = f"a request of {expected} tokens with an answer is more than is left"
                self._settle(meter, call_id, CallOutcome.OVER_BUDGET, 0.0, detail=detail)
                raise ModelCallError("the budget for the chat model does not allow another request", CallOutcome.OVER_BUDGET)
            bound = asked.bind(max_tokens=most)
            await self._take_turn()
            began = time.monotonic()
            progress = Progress(lambda tokens: meter.heard(self.role, tokens))
            with telemetry.model_call(self.name, self.role, self.model._llm_type, call_id) as span:
                try:
                    whole = streamed(bound, messages, progress) if self.options.stream else bound.ainvoke(list(messages))
                    answer: AIMessage = storable(await asyncio.wait_for(whole, self.options.timeout_s + _GRACE_S))
                except asyncio.CancelledError:
                    # The run's time ended, or a person did. The server may have counted the request already; so does the ledger.
                    span.end(
                        self._settle(
                            meter, call_id, CallOutcome.TIMED_OUT, time.monotonic() - began, expected, progress.tokens, True, "given up"
                        )
                    )
                    raise
                except Exception as error:  # the outside begins here: each provider raises errors of its own
                    failure = as_call_error(error)
                    counted = (expected, progress.tokens, True) if progress.tokens else (0, 0, False)
                    span.end(self._settle(meter, call_id, failure.outcome, time.monotonic() - began, *counted, detail=str(failure)))
                else:
                    outcome = outcome_of(answer)
                    usage = answer.usage_metadata
                    sent = usage["input_tokens"] if usage else expected
                    received = usage["output_tokens"] if usage else tokens_of([answer])
                    span.end(self._settle(meter, call_id, outcome, time.monotonic() - began, sent, received, usage is None))
                    if self._transcript is not None:
                        self._transcript.add(messages, tools, answer, role=self.role, model=self.name, call_id=call_id, **about)
                    return answer
            if failure.outcome is CallOutcome.NO_TOOLS:
                self._has_tools = False
            if failure.outcome not in MAY_PASS or attempt == self.options.retries:
                raise failure
            pause = min(MAX_BACK_OFF_S, failure.retry_after_s if failure.retry_after_s is not None else 0.5 * 2.0**attempt)
            logger.info("%s; trying again in %.1f s", failure, pause)
            await self._sleep(pause)
        raise AssertionError("the loop returns or raises")

    def _affordable(self, meter: Meter, expected: int) -> int:
        """Return the most tokens that an answer may have within the budget."""
        left = meter.left()
        most = self.output_tokens if left.tokens is None else min(self.output_tokens, left.tokens - expected)
        if left.dollars is not None and self.price is not None and self.price.output > 0:
            most = min(most, int((left.dollars - self.price.dollars(expected, 0)) * 1e6 / self.price.output))
        return most

    async def _take_turn(self) -> None:
        if self.options.requests_per_minute > 0:
            now = time.monotonic()
            self._next = max(now, self._next)
            wait, self._next = self._next - now, self._next + 60.0 / self.options.requests_per_minute
            if wait > 0:
                await self._sleep(wait)

    def _settle(
        self,
        meter: Meter,
        call_id: str,
        outcome: CallOutcome,
        seconds: float,
        sent: int = 0,
        received: int = 0,
        is_estimated: bool = False,
        detail: str = "",
    ) -> ModelCall:
        call = ModelCall(
            call_id=call_id,
            role=self.role,
            model=self.name,
            outcome=outcome,
            input_tokens=sent,
            output_tokens=received,
            dollars=self.price.dollars(sent, received) if self.price else None,
            seconds=seconds,
            is_estimated=is_estimated,
            detail=scrub(detail)[:500],
        )
        meter.settle(call)
        return call


def outcome_of(answer: AIMessage) -> CallOutcome:
    """Return what kind of answer it is."""
    metadata = answer.response_metadata
    reason = str(metadata.get("finish_reason") or metadata.get("stop_reason") or "").lower()
    if reason in ("length", "max_tokens", "model_length"):
        return CallOutcome.CUT_OFF
    if answer.invalid_tool_calls:
        return CallOutcome.BROKEN_TOOL_CALL
    return CallOutcome.ANSWERED if text_of(answer).strip() or answer.tool_calls else CallOutcome.EMPTY


__all__ = ["BYTES_PER_TOKEN", "ChatClient", "outcome_of", "text_of", "tokens_of"]
