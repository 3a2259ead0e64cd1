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
MOST_EFFORT = {"pairs": 10_000, "value_seeds": 1_000, "min_block_ms": 10_000, "timeout_s": 86_400}
"""What one request may ask for: an evaluation that never ends would keep an accelerator from everybody else."""


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
        if not 0 <= seed < 1 << 63:
            raise OptionError("not an evaluation request: the seed must be a whole number from 0 to 2^63 - 1")
        for name, most in MOST_EFFORT.items():
            value = getattr(chosen, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= most:
                raise OptionError(f"not an evaluation request: the effort's {name} must be positive and at most {most:,}")
        if not isinstance(chosen.pairs, int) or not isinstance(chosen.value_seeds, int):
            raise OptionError("not an evaluation request: the effort's pairs and value_seeds must be whole numbers")
        texts = (chosen.name, candidate.language, problem.problem_id, problem.name, problem.path)
        options = candidate.build_options
        if not all(isinstance(text, str) for text in texts) or not (
            isinstance(options, dict) and all(isinstance(item, str) for pair in options.items() for item in pair)
        ):
            raise OptionError("not an evaluation request: names, the language and build options must be text")
        return Request(candidate, dataclasses.replace(problem, path=""), target, chosen, seed)


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
