"""What people asked of a run while it goes on: notes for the coder, a pause, the end of the search, nodes that are not to be expanded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agents.context import RunContext


@dataclass(frozen=True)
class Wishes:
    """The requests that came in since the last round."""

    asked: int
    """Number of the latest request that was heard."""
    notes: tuple[str, ...] = ()
    is_paused: bool = False
    cancelled: str = ""
    """Why the search is to end; empty: it is not."""


def hear(context: RunContext, after: int) -> Wishes:
    """Read the requests after number `after` and close the nodes that people closed. Repeating it changes nothing."""
    notes: list[str] = []
    is_paused, cancelled = False, ""
    for request in context.store.requests(context.run_id, after):
        after = request.number
        if request.kind == "note":
            notes.append(request.text)
        elif request.kind == "pause":
            is_paused = True
        elif request.kind == "cancel":
            cancelled = f"a person cancelled the search{f': {request.text}' if request.text else ''}"
        elif request.kind == "close":
            close_place(context, [request.text])
    return Wishes(after, tuple(notes), is_paused, cancelled)


def close_place(context: RunContext, parents: Sequence[str]) -> None:
    """See to it that these parents (none: drafts) are not expanded any more."""
    context.store.close_place(context.run_id, parents)
