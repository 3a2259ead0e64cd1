"""How much a client may send and is sent: sizes that fit a model's context, and waits that fit a client's patience."""

from __future__ import annotations

from typing import Any

from agents.mcp.errors import CallError

MAX_SOURCE_CHARACTERS = 400_000
"""Longest candidate or problem that is taken in."""
MAX_QUERY_CHARACTERS = 4_000
MAX_TEXT_CHARACTERS = 16_000
"""Longest text that one field of an answer holds; what is longer is cut, and says so."""
MAX_ITEMS = 50
"""Most items of a list in an answer."""
MAX_WAIT_S = 300.0
"""Longest that one call waits; what takes longer goes on as a job."""
DEFAULT_WAIT_S = 45.0
"""Many clients give up on a call after 60 s."""
MAX_BODY_BYTES = 2 * 1024 * 1024
"""Largest HTTP request."""


def taken(name: str, text: str, most: int) -> str:
    """Return `text` if it is not empty and not too long.

    Raises:
        CallError: It is; the message says what to send instead.
    """
    if not text.strip():
        raise CallError(f"{name} is empty; send its text")
    if len(text) > most:
        raise CallError(f"{name} has {len(text)} characters; at most {most} are taken. Send a shorter one")
    if "\x00" in text:
        raise CallError(f"{name} holds a NUL character; send plain text")
    return text


def waited(wait_s: float) -> float:
    """Return how long a call waits, in s, within what is allowed."""
    if not wait_s >= 0:
        raise CallError(f"wait_s must be 0 or more, got {wait_s!r}")
    return min(wait_s, MAX_WAIT_S)


def fits(value: Any, most: int = MAX_TEXT_CHARACTERS) -> Any:  # Any: JSON in, JSON out
    """Return a JSON value with long texts and lists cut; a cut one says how much is missing."""
    if isinstance(value, str):
        return value if len(value) <= most else f"{value[:most]}\n[cut: {len(value) - most} more characters]"
    if isinstance(value, dict):
        return {str(key): fits(item, most) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        kept = [fits(item, most) for item in value[:MAX_ITEMS]]
        return [*kept, f"[cut: {len(value) - MAX_ITEMS} more items]"] if len(value) > MAX_ITEMS else kept
    return value
