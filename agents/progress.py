"""Progress of a run on stderr: a live line where a person watches; elsewhere plain lines, one of them at least every `QUIET_S`."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import TYPE_CHECKING

from agents.runs.records import Event

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live
    from rich.table import Table


QUIET_S = 10.0
"""How long a run says nothing where no terminal shows its progress, in s."""


class Progress:
    """Shows events as they come.

    Args:
        console: Where to; stderr.
        evaluations: The budget of evaluations, for "so many of so many"; None: unknown.
        known: Evaluations made before this process took over.
        quiet_s: Longest silence without a terminal, in s.
    """

    def __init__(self, console: Console, evaluations: int | None, known: int = 0, quiet_s: float = QUIET_S) -> None:
        self._console = console
        self._limit = evaluations
        self._evaluated = known
        self._nodes = 0
        self._best = 0.0
        self._told_of = ""
        """What follows a fitness: that it is simulated."""
        self._status = "starting"
        self._what = ""
        self._started = time.monotonic()
        self._live: Live | None = None
        self._quiet_s = quiet_s
        self._told = self._started
        self._end = threading.Event()
        self._pulse: threading.Thread | None = None

    def __enter__(self) -> Progress:
        if self._console.is_terminal:
            from rich.live import Live

            self._live = Live(get_renderable=self._table, console=self._console, refresh_per_second=2, transient=True)
            self._live.__enter__()
        else:
            self._pulse = threading.Thread(target=self._break_silence, daemon=True, name="kevolve-progress")
            self._pulse.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        if self._live is not None:
            self._live.__exit__(kind, error, traceback)
        if self._pulse is not None:
            self._end.set()
            self._pulse.join()

    def __call__(self, event: Event) -> None:
        """Take in an event."""
        line = self._take(event)
        if line and self._live is None:
            self._tell(line)

    def _tell(self, line: str) -> None:
        self._told = time.monotonic()
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def _break_silence(self) -> None:
        while not self._end.wait(max(0.05, self._told + self._quiet_s - time.monotonic())):
            if time.monotonic() - self._told >= self._quiet_s:
                what = f": {self._what[:120]}" if self._what else ""
                best = f", best {self._best:.3f}×{self._told_of}" if self._best else ""
                self._tell(f"{time.monotonic() - self._started:.0f} s: {self._count()} evaluations{best}, {self._status}{what}")

    def _count(self) -> str:
        return f"{self._evaluated}{f'/{self._limit}' if self._limit else ''}"

    def _take(self, event: Event) -> str:
        data = event.data
        if event.kind == "planned":
            starts = [f"run {item['winner']['run_id']} ({item['winner']['problem_id']})" for item in (*data["same"], *data["siblings"])]
            self._status = "planned"
            return f"starting from what was learned before: {', '.join(starts)}" if starts else "no earlier winner fits this problem"
        if event.kind == "diagnosed":
            self._status = "writing" if data["bottleneck"] == "none_yet" else f"writing ({data['bottleneck']})"
        elif event.kind == "answering":
            self._status = f"{data['role']} answers: {data['tokens']} tokens"
        elif event.kind == "written":
            self._status, self._what = "evaluating", data["notes"]
        elif event.kind == "evaluated":
            self._evaluated = data.get("evaluations", self._evaluated + (data["status"] != "lint_error"))
            self._best = max(self._best, data["fitness"])
            self._status = data["status"]
            self._told_of = " (simulated)" if data.get("evidence") == "simulated" else ""
            outcome = (
                f"fitness {data['fitness']:.3f}{self._told_of}" if data["status"] == "passed" else f"{data['status']}: {data['reason']}"
            )
            return f"[{self._count()}] {self._what or data['candidate_id']} → {outcome}"
        elif event.kind == "recorded":
            self._nodes, self._best = data["nodes"], max(self._best, data["best_fitness"])
        elif event.kind == "stopped":
            self._status, self._what = "evaluating finalists" if self._told_of else "measuring finalists", ""
            return f"search ended: {data['reason']}"
        elif event.kind == "remeasured":
            self._evaluated = data.get("evaluations", self._evaluated + 1)
            what = "checked and simulated" if data.get("evidence") == "simulated" else "measured"
            return f"{what} again at full effort: fitness {data['fitness']:.3f} (search: {data['fitness_search']:.3f}), {data['status']}"
        return ""

    def _table(self) -> Table:
        from rich.table import Table

        table = Table.grid(padding=(0, 2))
        table.add_row(
            f"[bold]{self._nodes}[/] nodes",
            f"{self._count()} evaluations",
            f"best [bold]{self._best:.3f}×[/]{self._told_of}" if self._best else "no candidate yet",
            f"{time.monotonic() - self._started:.0f} s",
            self._status,
        )
        if self._what:
            from rich.text import Text

            table.add_row("", Text(self._what[:120], style="dim"))
        return table
