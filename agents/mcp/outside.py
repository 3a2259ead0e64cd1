"""The coder of a run that an outside agent drives: every `write` becomes a ticket that waits for a submission.

The search is a real one: strategy, lint, evaluator, budget and records are those of any other run; only the text of the candidates comes from outside.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from agents.coders.base import CoderTask, Draft
from agents.mcp.errors import CallError
from tools.types import Candidate, Problem


@dataclass(frozen=True)
class Ticket:
    """One candidate that the search waits for."""

    ticket_id: str
    """Follows from the run's seed, the session and the attempt: the same after a restart."""
    task: CoderTask
    answer: asyncio.Future[Draft] = field(repr=False, compare=False)


class OutsideCoder:
    """Hands out tickets and takes in submissions. One a run; use it from the event loop that drives the run.

    Args:
        run_id: The run it writes for.
    """

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        self._tickets: dict[str, Ticket] = {}
        self._is_closed = False
        self.changed = asyncio.Condition()

    async def signature(self, problem: Problem, target: str) -> str:
        """See `Coder.signature`: unknown without capturing the reference."""
        return ""

    async def write(self, task: CoderTask) -> Draft:
        """See `Coder.write`; waits for a submission as long as the run's time lasts."""
        if self._is_closed:
            return Draft(candidate=None, exhausted=True)
        ticket = Ticket(f"{self.run_id}.{task.seed:x}", task, asyncio.get_running_loop().create_future())
        self._tickets[ticket.ticket_id] = ticket
        await self.tell()
        try:
            return await ticket.answer
        finally:
            self._tickets.pop(ticket.ticket_id, None)

    async def tell(self) -> None:
        """Wake those who wait for something to change."""
        async with self.changed:
            self.changed.notify_all()

    def tickets(self) -> list[Ticket]:
        """Return the tickets that wait, oldest first."""
        return [ticket for ticket in self._tickets.values() if not ticket.answer.done()]

    def submit(self, ticket_id: str, candidate: Candidate, summary: str, chunk_ids: tuple[str, ...]) -> Ticket:
        """Answer a ticket.

        Raises:
            CallError: No such ticket waits.
        """
        ticket = self._tickets.get(ticket_id)
        if ticket is None or ticket.answer.done():
            open_ids = ", ".join(item.ticket_id for item in self.tickets()) or "none; call next_node"
            raise CallError(f"no ticket {ticket_id!r} waits in run {self.run_id}; waiting: {open_ids}")
        ticket.answer.set_result(Draft(candidate=candidate, summary=summary, chunk_ids=chunk_ids))
        return ticket

    async def close(self) -> None:
        """Have nothing more to propose: the search measures its finalists and ends."""
        self._is_closed = True
        for ticket in self.tickets():
            ticket.answer.set_result(Draft(candidate=None, exhausted=True))
        await self.tell()
