"""What the run store hands out and takes in: run, node, session and attempt records. Plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from agents.types import Attempt, Memory
from tools.types import Candidate, Evaluation, Problem, Status


class RunStatus(StrEnum):
    """Where a run stands."""

    OPEN = "open"
    """Started and not finished: driven by a process now, or waiting for `kevolve resume`."""
    FINISHED = "finished"
    """The search ended by itself and its result is published."""


class Outcome(StrEnum):
    """How a session ended."""

    PASSED = "passed"
    """Its last attempt passed."""
    FAILED = "failed"
    """It wrote candidates, none of which passed."""
    EXHAUSTED = "exhausted"
    """The coder had nothing new."""
    REPEATED = "repeated"
    """The coder only wrote candidates that were there already."""
    STOPPED = "stopped"
    """The budget ended before it could evaluate anything."""


@dataclass(frozen=True)
class RunRecord:
    """A run as stored."""

    run_id: str
    created: float
    """Seconds since the epoch."""
    status: RunStatus
    problem: Problem
    target: str
    strategy: str
    coder: str
    seed: int
    config: Mapping[str, Any]  # Any: JSON of the resolved configuration
    versions: Mapping[str, str]
    result: Mapping[str, Any] | None  # Any: JSON, see `agents.outcome`
    seconds: float
    """Wall time so far while a process drove it, in s."""
    is_driven: bool
    """True while a living process holds the lease."""


@dataclass(frozen=True)
class NodeRecord:
    """A node of the search graph."""

    node_id: str
    step: int
    """Logical step: position in the order of insertion, from 0."""
    round: int
    session_id: str
    attempt: int
    parents: tuple[str, ...]
    candidate: Candidate
    source_hash: str
    artifact: str
    evaluation: Evaluation
    notes: str
    chunk_ids: tuple[str, ...]
    diagnosis: Mapping[str, Any]  # Any: JSON of a Diagnosis
    algorithm: Mapping[str, Any]  # Any: JSON that the strategy wants to see again
    features: Mapping[str, str] = field(default_factory=dict)
    """Descriptors of the kernel by which strategies tell kinds apart."""

    @property
    def fitness(self) -> float:
        """Fitness of the evaluation."""
        return self.evaluation.fitness

    def to_attempt(self) -> Attempt:
        """Return it as coders see it."""
        return Attempt(candidate=self.candidate, evaluation=self.evaluation, notes=self.notes, node_id=self.node_id)


@dataclass(frozen=True)
class NodeSummary:
    """A node without its source and samples: what choosing needs, cheap to read in large numbers."""

    node_id: str
    session_id: str
    round: int
    fitness: float
    status: Status
    features: Mapping[str, str]


@dataclass(frozen=True)
class SessionRecord:
    """A session as stored."""

    session_id: str
    round: int
    sibling: int
    parents: tuple[str, ...]
    memory: Memory
    algorithm: Mapping[str, Any]  # Any: JSON that the strategy wants to see again
    outcome: Outcome


@dataclass(frozen=True)
class AttemptRecord:
    """One draft of a session, with its evaluation once there is one."""

    attempt: int
    candidate: Candidate | None
    """None when the coder was exhausted."""
    source_hash: str
    artifact: str
    notes: str
    chunk_ids: tuple[str, ...]
    diagnosis: Mapping[str, Any]  # Any: JSON of a Diagnosis
    evaluation: Evaluation | None = None
    duplicate_of: str = ""
    """The earlier node or attempt with the same normalised source; empty if it is new."""

    @property
    def has_passed(self) -> bool:
        """True if it was evaluated and passed."""
        return self.evaluation is not None and self.evaluation.status is Status.PASSED


@dataclass(frozen=True)
class Spent:
    """What a run has used up so far."""

    evaluations: int = 0
    """Calls of the evaluator that came back, re-measurements included."""
    remeasurements: int = 0
    """Those of them that measured a finalist again."""
    seconds: float = 0.0
    device_seconds: float = 0.0
    """Seconds spent inside the evaluator."""
    tokens: int = 0
    dollars: float = 0.0


@dataclass(frozen=True)
class Event:
    """Something worth telling while a run goes on."""

    kind: str
    """For example `planned`, `written`, `evaluated`, `recorded`, `remeasured`, `finished`."""
    data: Mapping[str, Any] = field(default_factory=dict)  # Any: JSON
    number: int = 0
    """Grows from event to event; 0 before it is stored."""
    time: float = 0.0
    """Seconds since the epoch; 0.0 before it is stored."""


@dataclass(frozen=True)
class Message:
    """What was sent to a model, or came from it."""

    role: str
    """For example `system`, `human`, `ai`, `tool`."""
    text: str


@dataclass(frozen=True)
class Request:
    """What a person asked of a run while it goes on."""

    number: int
    kind: str
    """`note`, `pause`, `cancel`, `close` (a node), `approve` or `reject`."""
    text: str = ""


@dataclass(frozen=True)
class Repair:
    """A failure that was mended."""

    run_id: str
    broken: NodeRecord
    fixed: NodeRecord
