"""What travels between a service and its clients: JSON, checked on both sides."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agents.errors import OptionError
from tools.receipts import read_receipt, write_receipt
from tools.types import EFFORTS, Candidate, Effort, Evaluation, Problem

MAX_SOURCE_CHARACTERS = 400_000
"""Longest source of a candidate or a problem."""


@dataclasses.dataclass(frozen=True)
class Request:
    """One evaluation that somebody asks for."""

    candidate: Candidate
    problem: Problem
    target: str
    effort: Effort
    seed: int = 0

    def to_json(self) -> dict[str, Any]:  # Any: JSON
        """Return a JSON-ready mapping; `from_json` restores an equal value."""
        problem = {**dataclasses.asdict(self.problem), "path": ""}  # paths mean nothing elsewhere
        return {
            "candidate": dataclasses.asdict(self.candidate), "problem": problem, "target": self.target, "effort": dataclasses.asdict(self.effort), "seed": self.seed,
        }  # fmt: skip

    @staticmethod
    def from_json(data: Any) -> Request:  # Any: JSON from outside
        """Rebuild a request.

        Raises:
            OptionError: It is not one; the message names the field.
        """
        try:
            candidate, problem = Candidate(**data["candidate"]), Problem(**data["problem"])
            effort, seed, target = data["effort"], data.get("seed", 0), data["target"]
            chosen = EFFORTS[effort] if isinstance(effort, str) else Effort(**effort)
        except (KeyError, TypeError, ValueError) as err:
            raise OptionError(f"not an evaluation request: {type(err).__name__}: {err}") from err
        if not isinstance(target, str) or not isinstance(seed, int) or isinstance(seed, bool):
            raise OptionError("not an evaluation request: target must be text and seed a whole number")
        for name, source in (("candidate", candidate.source), ("problem", problem.source)):
            if not isinstance(source, str) or len(source) > MAX_SOURCE_CHARACTERS:
                raise OptionError(
                    f"not an evaluation request: the {name}'s source must be text of at most {MAX_SOURCE_CHARACTERS:,} characters"
                )
        if not all(
            isinstance(value, (int, float)) and value > 0
            for value in (chosen.pairs, chosen.value_seeds, chosen.min_block_ms, chosen.timeout_s)
        ):
            raise OptionError("not an evaluation request: the effort's numbers must be positive")
        return Request(candidate, problem, target, chosen, seed)


def packed(evaluation: Evaluation) -> dict[str, Any]:  # Any: JSON
    """Return an evaluation with the content of its receipt, ready to travel."""
    receipt = read_receipt(Path(evaluation.receipt)) if evaluation.receipt else {}
    return {"evaluation": evaluation.to_json(), "receipt": receipt}


def kept_receipt(answer: Mapping[str, Any], home: Path) -> Evaluation:  # Any: JSON
    """Return the evaluation of an answer, its receipt written below `home`."""
    evaluation = Evaluation.from_json(answer["evaluation"])
    if not answer["receipt"]:
        return evaluation
    content = {name: value for name, value in answer["receipt"].items() if name != "schema"}
    return dataclasses.replace(evaluation, receipt=str(write_receipt(home / "receipts", evaluation.candidate_id, content)))
