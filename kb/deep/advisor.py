"""What a language model adds to deep search: formulations in the manuals' words, and a choice among the passages found.

A model never writes a claim: whatever it selects is quoted from the chunk as before, and what it formulates is a query like any other.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from importlib import resources
from typing import Protocol

MOST_CHARACTERS = 700
"""Of a passage shown to a model."""
MOST_WORDS = 40
"""Of a formulation; longer lines are prose, not queries."""


class Advisor(Protocol):
    """Helps a deep search. Both methods may return nothing; the search then goes on by rules."""

    num_calls: int
    """How often a model was asked so far."""

    def formulate(self, question: str, limit: int, tried: Sequence[str] = ()) -> Sequence[str]:
        """Return queries that would find what answers the question, at most `limit`.

        Args:
            question: As it was asked.
            limit: Most queries.
            tried: Headings of what was found before and does not help; empty the first time.
        """

    def select(self, question: str, passages: Sequence[str]) -> Sequence[int]:
        """Return the indices of the passages that help to answer, best first; those left out do not help."""


class PromptedAdvisor:
    """An advisor over any function from prompt to answer.

    Args:
        complete: Sends a prompt to a model and returns its answer.
    """

    def __init__(self, complete: Callable[[str], str]) -> None:
        self._send = complete
        self.num_calls = 0

    def formulate(self, question: str, limit: int, tried: Sequence[str] = ()) -> Sequence[str]:
        """Return queries that would find what answers the question, at most `limit`; see `Advisor`."""
        prompt = _prompt("formulate").format(question=question, limit=limit)
        if tried:
            prompt += _prompt("tried").format(headings="\n".join(f"- {heading}" for heading in tried))
        answer = self._complete(prompt)
        lines = [re.sub(r"^\s*(?:[-*•]|\d+[.):])\s*", "", line).strip(" \"'`") for line in answer.splitlines()]
        queries = [line for line in lines if line and len(line.split()) <= MOST_WORDS and line != question]
        return list(dict.fromkeys(queries))[:limit]

    def select(self, question: str, passages: Sequence[str]) -> Sequence[int]:
        """Return the indices of the passages that help to answer, best first; those left out do not help."""
        shown = "\n\n".join(f"[{number}] {passage[:MOST_CHARACTERS]}" for number, passage in enumerate(passages, start=1))
        answer = self._complete(_prompt("select").format(question=question, passages=shown))
        numbers = [int(number) for number in re.findall(r"\d+", answer)]
        return list(dict.fromkeys(number - 1 for number in numbers if 1 <= number <= len(passages)))

    def _complete(self, prompt: str) -> str:
        self.num_calls += 1
        return self._send(prompt)


def _prompt(name: str) -> str:
    return resources.files("kb.deep").joinpath("prompts", f"{name}.txt").read_text(encoding="utf-8")
