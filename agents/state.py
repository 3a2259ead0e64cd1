"""The state of the search graph and of one session. Small JSON values only: what is long or precious lives in the run store."""

from __future__ import annotations

from typing import Any, TypedDict


class SessionState(TypedDict, total=False):
    """One session: what it expands, and how far it is."""

    session_id: str
    round: int
    sibling: int
    parents: list[str]
    memory: str
    algorithm: dict[str, Any]
    seed_id: str
    """Winner to evaluate as the first attempt instead of asking the coder; empty: none."""
    directive: str
    """What of the plan this session works on; empty: the whole problem."""
    item: int
    """Position of that item in the plan; -1: none."""
    winner_ids: list[str]
    """Winners that the coder may start from."""
    notes: list[str]
    """What people advised so far."""
    known: int
    """Nodes recorded when the round began: the history that every session of the round sees."""
    allotment: int
    """Evaluations this session may use."""
    attempt: int
    used: int
    """Evaluations this session has asked for."""
    outcome: str
    """Empty while the session goes on, else an `Outcome`."""


class SearchState(TypedDict, total=False):
    """The outer loop."""

    signature: str
    """What the problem computes, as the coder describes it."""
    seeds: list[str]
    """Winners still to be evaluated as first drafts."""
    injectable: list[str]
    """Winners of sibling and similar tasks that may still be injected, best first."""
    items: list[dict[str, Any]]
    """The plan: `WorkItem`s."""
    given: list[int]
    """Evaluations that the sessions of each item had."""
    adopted: int
    """Winners that sessions were started from."""
    winner_ids: list[str]
    notes: list[str]
    """What people advised so far."""
    asked: int
    """Number of the latest request of a person that was heard."""
    hold: str
    """Why the run waits for a person (`pause`, `approve`); empty: it does not."""
    round: int
    pending: list[SessionState]
    """Sessions of the current round."""
    idle_rounds: int
    """Rounds in a row that brought no new node."""
    stop: str
    """Why the search ended; empty while it goes on."""
