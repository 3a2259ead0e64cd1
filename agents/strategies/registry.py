"""Known search strategies by name. Adding one is a file and a line here."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

from agents.errors import OptionError, UnknownNameError
from agents.strategies.base import Strategy
from agents.strategies.evolutionary import Evolutionary
from agents.strategies.greedy import Greedy
from agents.strategies.linear import Linear
from agents.strategies.mcts import Mcts
from agents.strategies.one_shot import OneShot

STRATEGIES: dict[str, type[Strategy]] = {
    "evolutionary": Evolutionary,
    "greedy": Greedy,
    "linear": Linear,
    "mcts": Mcts,
    "one_shot": OneShot,
}

_AT_LEAST_ONE = frozenset({"islands", "population", "tournament", "stagnation"})
_READERS: dict[str, Callable[[str], int | float]] = {"int": int, "float": float}


def create_strategy(name: str, options: Mapping[str, str] | None = None) -> Strategy:
    """Build a strategy.

    Args:
        name: A key of `STRATEGIES`.
        options: Its options as text, for example `{"drafts": "5"}`.

    Raises:
        UnknownNameError: No such strategy or option; the message lists the known ones.
        OptionError: A value is not a number, or is negative.
    """
    if name not in STRATEGIES:
        raise UnknownNameError(f"unknown strategy {name!r}; known: {', '.join(sorted(STRATEGIES))}")
    kind = STRATEGIES[name]
    fields = {item.name: item for item in dataclasses.fields(kind)}  # type: ignore[arg-type]  # every strategy is a dataclass of its options
    values: dict[str, int | float] = {}
    for key, text in (options or {}).items():
        if key not in fields:
            known = ", ".join(sorted(fields)) or "none"
            raise UnknownNameError(f"strategy {name!r} has no option {key!r}; it has: {known}")
        try:
            values[key] = _READERS[str(fields[key].type)](text)
        except ValueError as error:
            raise OptionError(f"option {key} of strategy {name!r} must be a number ({fields[key].type}), got {text!r}") from error
        if values[key] < 0 or (key in _AT_LEAST_ONE and values[key] < 1):
            raise OptionError(f"option {key} of strategy {name!r} must be at least {1 if key in _AT_LEAST_ONE else 0}, got {text!r}")
    return kind(**values)
