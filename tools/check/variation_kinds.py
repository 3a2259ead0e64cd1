"""Which kinds of input draw a check uses. Standard library only."""

from __future__ import annotations

KINDS = ("as_given", "scaled", "shifted", "structured", "high_outliers", "outliers")
"""From the problem's own distribution to the most changed; a kind that makes the reference non-finite gives way to the one before."""


def draw_kinds(count: int) -> list[str]:
    """Return the kinds of `count` draws: the given distribution first, then the most telling ones."""
    order = ("as_given", "structured", "outliers", "scaled", "as_given")
    return [order[number % len(order)] for number in range(count)]
