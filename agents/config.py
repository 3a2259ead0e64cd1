"""The resolved configuration of a run: everything that decides what it does, stored with it and used again when it is resumed."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from agents.errors import OptionError
from agents.types import Budget, Limits


@dataclass(frozen=True)
class ModelOptions:
    """Which chat model an LLM coder talks to. Keys are never part of it: they come from the environment."""

    name: str = ""
    """`provider:name`, `openai-compatible`, `spool:DIR` or `replay:FILE`; empty: no model."""
    base_url: str = ""
    """Address of an OpenAI-compatible server, for example `http://localhost:8000/v1`."""
    model_id: str = ""
    """The model's name at that server; empty: the first it lists."""
    timeout_s: float = 300.0
    """Longest wait for one answer, in s."""
    retries: int = 3
    """Further tries after a failure that may pass (connection, rate limit)."""


@dataclass(frozen=True)
class RunConfig:
    """What `kevolve run` was asked to do, defaults filled in."""

    strategy: str = "greedy"
    strategy_options: Mapping[str, str] = field(default_factory=dict)
    coder: str = "library"
    model: ModelOptions = field(default_factory=ModelOptions)
    seed: int = 0
    budget: Budget = field(default_factory=Budget)
    limits: Limits = field(default_factory=Limits)
    width: int = 1
    """Sessions that may run at the same time. Evaluations still take turns unless the evaluator has several slots."""
    evaluator_slots: int = 1
    """Evaluations that may run at the same time."""
    use_knowledge: bool = True
    """False: no retrieval, no winners to start from, no write-back."""
    finalists: int | None = None
    """Best candidates that are measured again at full effort; None: 1 below 8 evaluations, else 2; counted in the budget."""
    max_seeds: int = 2
    """Earlier winners of the very same problem that become first drafts."""
    stall_window: int = 0
    """Stop after so many sessions without a better best; 0: never."""
    fitness_threshold: float | None = None
    """Stop once the best fitness reaches it."""
    roofline_threshold: float | None = None
    """Stop once the best candidate reaches this fraction of its physical floor, 0 to 1."""

    def __post_init__(self) -> None:
        for name in ("width", "evaluator_slots"):
            if getattr(self, name) < 1:
                raise OptionError(f"{name} must be at least 1, got {getattr(self, name)!r}")
        for name in ("finalists", "max_seeds", "stall_window"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise OptionError(f"{name} must not be negative, got {value!r}")
        if self.roofline_threshold is not None and not 0 < self.roofline_threshold <= 1:
            raise OptionError(f"roofline_threshold is a fraction above 0 and at most 1, got {self.roofline_threshold!r}")
        if self.coder == "llm" and not self.model.name:
            raise OptionError(
                "the llm coder needs a model: give --model, for example --model openai-compatible --base-url http://localhost:8000/v1"
            )
        evaluations = self.budget.evaluations
        if evaluations is not None and self.finalists is not None and self.finalists >= evaluations:
            raise OptionError(
                f"{self.finalists} finalists leave nothing of {evaluations} evaluations for the search; lower one or raise the other"
            )

    @property
    def num_finalists(self) -> int:
        """Evaluations that are kept back for the finalists. 0 with a single evaluation, which then runs at full effort."""
        if self.finalists is not None:
            return self.finalists
        evaluations = self.budget.evaluations
        if evaluations is None or evaluations >= 8:
            return 2
        return 1 if evaluations > 1 else 0

    def to_json(self) -> dict[str, Any]:  # Any: JSON
        """Return a JSON-ready mapping; `from_json` restores an equal value."""
        return dataclasses.asdict(self)

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> RunConfig:  # Any: JSON
        """Rebuild a configuration from `to_json` output."""
        values = dict(data)
        values["model"] = ModelOptions(**values["model"])
        values["budget"] = Budget(**values["budget"])
        values["limits"] = Limits(**values["limits"])
        return RunConfig(**values)
