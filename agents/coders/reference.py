"""A coder that hands the reference back as it is: the control that shows what doing nothing gives, and a check of the whole path."""

from __future__ import annotations

from agents.coders.base import CoderTask, Draft, written_sources
from tools.types import Candidate, Problem


class ReferenceCoder:
    """Writes one candidate, the reference under the name `ModelNew`, and then has nothing new."""

    async def write(self, task: CoderTask) -> Draft:
        """See `Coder.write`."""
        source = f"{task.problem.source.rstrip()}\n\n\nclass ModelNew(Model):\n    pass\n"
        candidate = Candidate(source=source, language="torch", provenance={"coder": "reference"})
        if task.sibling or candidate.candidate_id in written_sources(task.history):
            return Draft(candidate=None, exhausted=True)
        return Draft(candidate=candidate, summary="the reference itself, unchanged")

    async def signature(self, problem: Problem, target: str) -> str:
        """See `Coder.signature`."""
        return ""
