"""Tell what kind of failure an error of a model is: by its type, the HTTP status and the words that servers use."""

from __future__ import annotations

import re

from agents.chat_models.calls import CallOutcome, ModelCallError
from agents.chat_models.keys import scrub

_TOO_LONG = re.compile(
    r"context[ _](length|window|size)|maximum context|max(imum)? (prompt|input) length|prompt is too long|input is too long|too many (input )?tokens"
    r"|reduce the length|exceeds? (the )?(model'?s )?(maximum|context|token)|longer than the (maximum|model)",
    re.IGNORECASE,
)
_NO_TOOLS = re.compile(
    r"(tools?|function[ _]call\w*|tool_choice)\W.{0,60}(not|un)[ -]?(support|recogni|allow|permit|available)|does not support tools?",
    re.IGNORECASE,
)
_KEY = re.compile(r"api[ _-]?key|credential|authenticat|unauthori[sz]ed|permission", re.IGNORECASE)


def outcome_of_status(status: int, text: str) -> CallOutcome:
    """Return what an HTTP status means, with the words that came with it."""
    if status in (401, 403):
        return CallOutcome.REFUSED_KEY
    if status == 413 or (400 <= status < 500 and _TOO_LONG.search(text)):
        return CallOutcome.CONTEXT_OVERFLOW
    if 400 <= status < 500 and _NO_TOOLS.search(text):
        return CallOutcome.NO_TOOLS
    if status == 429:
        return CallOutcome.RATE_LIMITED
    if status in (408, 504):
        return CallOutcome.TIMED_OUT
    return CallOutcome.UNREACHABLE if status >= 500 or status in (409, 425) else CallOutcome.FAILED


def as_call_error(error: Exception) -> ModelCallError:
    """Return any error of a chat model as one of ours, its text without keys."""
    if isinstance(error, ModelCallError):
        return error
    text = scrub(f"{type(error).__name__}: {error}")[:1000]
    status = next((value for name in ("status_code", "code", "http_status") if isinstance(value := getattr(error, name, None), int)), 0)
    if status >= 400:
        outcome = outcome_of_status(status, text)
    elif isinstance(error, TimeoutError) or "Timeout" in type(error).__name__:
        outcome = CallOutcome.TIMED_OUT
    elif isinstance(error, ConnectionError) or "Connect" in type(error).__name__:
        outcome = CallOutcome.UNREACHABLE
    elif _TOO_LONG.search(text):
        outcome = CallOutcome.CONTEXT_OVERFLOW
    elif _NO_TOOLS.search(text):
        outcome = CallOutcome.NO_TOOLS
    elif _KEY.search(text):
        outcome = CallOutcome.REFUSED_KEY
    else:
        outcome = CallOutcome.FAILED
    hints = {
        CallOutcome.REFUSED_KEY: "; set the provider's key in the environment",
        CallOutcome.UNREACHABLE: "; check the address and the network",
    }
    made = ModelCallError(f"the chat model failed: {text}{hints.get(outcome, '')}", outcome)
    made.__cause__ = error
    return made
