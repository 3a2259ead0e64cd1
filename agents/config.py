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
    context_tokens: int = 0
    """Most tokens of a request and its answer together; 0: by the price table, else 32,768."""
    max_output_tokens: int = 0
    """Most tokens of an answer; 0: 8,192, or less where the model gives less."""
    requests_per_minute: float = 0.0
    """Most requests in a minute; 0: no limit of ours."""
    temperature: float | None = None
    """None: the model's own."""
    stream: bool | None = None
    """Take answers in while they are written; None: where the server is `openai-compatible`."""

    def __post_init__(self) -> None:
        if not self.timeout_s > 0 or self.retries < 0 or self.requests_per_minute < 0:
            raise OptionError(f"a model needs timeout_s above 0 and retries and requests_per_minute of 0 or more, got {self}")
        if min(self.context_tokens, self.max_output_tokens) < 0 or 0 < self.context_tokens < 2048:
            raise OptionError(f"context_tokens is 0 or at least 2048 and max_output_tokens is not negative, got {self}")


@dataclass(frozen=True)
class RunConfig:
    """What `kevolve run` was asked to do, defaults filled in."""

    strategy: str = "greedy"
    strategy_options: Mapping[str, str] = field(default_factory=dict)
    coder: str = "library"
    model: ModelOptions = field(default_factory=ModelOptions)
    """What the coder talks to."""
    role_models: Mapping[str, ModelOptions] = field(default_factory=dict)
    """Models of `planner`, `diagnosis`, `deep_search` and `reflection`; a role without one works by rules."""
    seed: int = 0
    budget: Budget = field(default_factory=Budget)
    limits: Limits = field(default_factory=Limits)
    width: int = 1
    """Sessions that may run at the same time. Evaluations still take turns unless the evaluator has several slots."""
    evaluator_slots: int = 1
    """Evaluations that may run at the same time."""
    evaluator: str = "local"
    """Where candidates are measured: `local`, the URL of a service, `ray`, or `ray:ADDRESS`."""
    use_knowledge: bool = True
    """False: no retrieval, no winners to start from, no write-back."""
    finalists: int | None = None
    """Best candidates that are measured again at full effort; None: 1 below 8 evaluations, else 2; counted in the budget."""
    reuse: bool = True
    """Earlier winners become first drafts: those of the very same problem, without any the best of a sibling or similar task. False: the coder writes them."""
    max_seeds: int = 2
    """Earlier winners of the very same problem that a run looks for."""
    use_siblings: bool = True
    """False: winners of other problems are not looked at."""
    deep_search: bool = True
    """False: the knowledge base is not asked what the diagnosis raises; for coders that read no brief."""
    profiles: int = 0
    """Passing candidates that are profiled for the diagnosis, at most; for coders that read it."""
    write_back: bool = True
    """False: the knowledge base is read, but neither winner nor lesson is stored in it."""
    injection_rate: float = 0.0
    """Probability with which a later session starts from the winner of a sibling or similar task instead of what the strategy chose, 0 to 1."""
    reuse_threshold: float = 0.8
    """Least similarity of the descriptions (vectors and words) at which another task counts as similar, 0 to 1."""
    approve: bool = False
    """Ask a person before every round."""
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
        for name in ("finalists", "max_seeds", "stall_window", "profiles"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise OptionError(f"{name} must not be negative, got {value!r}")
        if self.roofline_threshold is not None and not 0 < self.roofline_threshold <= 1:
            raise OptionError(f"roofline_threshold is a fraction above 0 and at most 1, got {self.roofline_threshold!r}")
        for name in ("injection_rate", "reuse_threshold"):
            if not 0 <= getattr(self, name) <= 1:
                raise OptionError(f"{name} is a fraction from 0 to 1, got {getattr(self, name)!r}")
        if self.fitness_threshold is not None and not self.fitness_threshold > 0:
            raise OptionError(f"fitness_threshold must be above 0, got {self.fitness_threshold!r}")
        if not self.use_knowledge and self.injection_rate:
            raise OptionError("injection_rate needs the knowledge base; leave out --no-knowledge or the rate")
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
        values["role_models"] = {role: ModelOptions(**options) for role, options in values.get("role_models", {}).items()}
        values["budget"] = Budget(**values["budget"])
        values["limits"] = Limits(**values["limits"])
        return RunConfig(**values)
