"""Starts the children, kills them, and compares what they leave with what an undisturbed operation leaves."""

from __future__ import annotations

import json
import multiprocessing
import random
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluation.faults.cases import OPERATIONS, check_only, crowd_member, examiner, victim, write_folder

CHILD_TIMEOUT_S = 300.0


@dataclass(frozen=True)
class KillCase:
    """What one kill did and what was found afterwards."""

    operation: str
    how: str
    """`point` (at a counted fault point) or `delay`."""
    at: float
    """Number of the fault point, or seconds."""
    of: float
    """Number of fault points of the undisturbed operation, or its seconds."""
    was_killed: bool
    """False if the operation had ended before the delay was over."""
    problems: tuple[str, ...]
    """What `check` found right after the kill."""
    mended_by: str
    """`repair` (`check --repair`) or `again` (the operation run again)."""
    problems_after_mending: tuple[str, ...]
    """What `check` found after that."""
    lost: int
    """Chunks missing after the operation was run again."""
    doubled: int
    """Chunks too many after the operation was run again."""
    stale: tuple[str, ...]
    """Removed documents that some leg still found."""
    problems_at_end: tuple[str, ...]
    is_equal: bool
    """Whether the base equals an undisturbed one in every field compared."""

    @property
    def is_good(self) -> bool:
        """Return whether the base survived."""
        return self.is_equal and not (self.problems_after_mending or self.problems_at_end or self.lost or self.doubled or self.stale)


class Faults:
    """Runs cases in a scratch directory.

    Args:
        scratch: Emptied case by case.
        environment: For the children, for example `KEVOLVE_CHROMA_URL`.
        database: Called with the case's number; returns the address of a fresh catalogue, or None for SQLite.
    """

    def __init__(self, scratch: Path, environment: Mapping[str, str] | None = None, database: Callable[[int], str] | None = None) -> None:
        self._scratch = scratch
        self._environment = dict(environment or {})
        self._database = database
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["evaluation.faults.cases", "chromadb", "kb.embedders.hashing", "kb_ingest.readers.markdown"])
        self._number = 0
        self.expected: dict[str, dict[str, Any]] = {}  # Any: JSON

    def undisturbed(self, operation: str) -> dict[str, Any]:  # Any: JSON
        """Return fault points, seconds and contents of an operation that nobody kills."""
        if operation not in self.expected:
            home, environment = self._case()
            answer = self._run(victim, str(home), operation, 0, environment)
            examined = self._run(examiner, str(home), operation, "again", environment)
            if answer is None or examined is None or examined["problems"] or examined["problems_at_end"]:
                raise RuntimeError(f"the undisturbed {operation} went wrong: {answer} {examined}")
            self.expected[operation] = {**answer, **examined}
        return self.expected[operation]

    def kill(self, operation: str, how: str, share: float, mended_by: str = "repair") -> KillCase:
        """Kill an operation at a share (0 to 1) of its fault points or of its time, mend and examine what is left."""
        expected = self.undisturbed(operation)
        home, environment = self._case()
        if how == "point":
            of: float = expected["points"]
            at: float = 1 + int(share * (of - 1))
            survived = self._run(victim, str(home), operation, int(at), environment)
        else:
            of = expected["seconds"]
            at = share * of
            survived = self._run(victim, str(home), operation, 0, environment, kill_after_s=at)
        examined = self._run(examiner, str(home), operation, mended_by, environment)
        if examined is None:
            raise RuntimeError(f"nobody could examine the base after {operation} was killed at {how} {at}")
        there, wanted = Counter(examined["chunks"]), Counter(expected["chunks"])
        compared = ("chunks", "lengths", "targets")
        return KillCase(
            operation=operation,
            how=how,
            at=at,
            of=of,
            was_killed=survived is None,
            problems=tuple(examined["problems"]),
            mended_by=mended_by,
            problems_after_mending=tuple(examined["problems_after_mending"]),
            lost=sum((wanted - there).values()),
            doubled=sum((there - wanted).values()),
            stale=tuple(examined["stale"]),
            problems_at_end=tuple(examined["problems_at_end"]),
            is_equal=all(examined[key] == expected[key] for key in compared),
        )

    def crowd(self, processes: int, seconds: float) -> dict[str, Any]:  # Any: JSON
        """Let processes ingest and query one base at once; return what they report and what `check` says afterwards."""
        home, environment = self._case()
        answers = [self._scratch / f"answer{number}.json" for number in range(processes)]
        members = [
            self._context.Process(target=crowd_member, args=(str(home), number, seconds, environment, str(answers[number])))
            for number in range(processes)
        ]
        for member in members:
            member.start()
        for member in members:
            member.join(seconds + CHILD_TIMEOUT_S)
        reports = [json.loads(answer.read_text()) if answer.exists() else {"errors": ["no report"]} for answer in answers]
        examined = self._run(check_only, str(home), environment)
        return {"processes": processes, "seconds": seconds, "members": reports, "problems": (examined or {}).get("problems", ["no report"])}

    def _case(self) -> tuple[Path, dict[str, str]]:
        self._number += 1
        folder = self._scratch / "case"
        shutil.rmtree(folder, ignore_errors=True)
        write_folder(folder, 1)
        environment = {**self._environment, "KEVOLVE_HOME": str(folder / "home")}
        if self._database is not None:
            environment["KEVOLVE_CATALOGUE_URL"] = self._database(self._number)
        return folder / "home", environment

    def _run(self, work: Callable[..., None], *arguments: Any, kill_after_s: float | None = None) -> dict[str, Any] | None:  # Any: JSON
        answer = self._scratch / "answer.json"
        armed = Path(f"{answer}.armed")
        for path in (answer, armed):
            path.unlink(missing_ok=True)
        process = self._context.Process(target=work, args=(*arguments, str(answer)))
        process.start()
        if kill_after_s is not None:
            while not armed.exists() and process.is_alive():
                time.sleep(0.002)
            process.join(kill_after_s)
            process.kill()
        process.join(CHILD_TIMEOUT_S)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise RuntimeError(f"{work.__name__} did not end within {CHILD_TIMEOUT_S:.0f} s")
        if process.exitcode not in (0, -signal.SIGKILL):
            raise RuntimeError(f"{work.__name__} ended with exit code {process.exitcode}; its traceback stands above")
        if not answer.exists():
            return None
        found: dict[str, Any] = json.loads(answer.read_text())
        return found


def schedule(kills: int, seed: int) -> list[tuple[str, str, float, str]]:
    """Return (operation, how, share, mended by) of each kill.

    Operations in turn, two of three at fault points, the shares spread over the whole operation, every second one mended by running the operation again.
    """
    chance = random.Random(seed)
    per_operation = -(-kills // len(OPERATIONS))
    found = []
    for number in range(kills):
        operation, place = OPERATIONS[number % len(OPERATIONS)], number // len(OPERATIONS)
        share = (place + chance.random()) / per_operation
        found.append((operation, "delay" if place % 3 == 2 else "point", share, "again" if place % 2 else "repair"))
    return found
