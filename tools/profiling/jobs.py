"""A graph of jobs: each runs once what it needs has run; what fails costs its dependants, nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tools.errors import ToolsError


@dataclass(frozen=True)
class Job:
    """One step."""

    name: str
    run: Callable[[Mapping[str, Any]], Any]  # Any: what jobs hand to each other is theirs to know
    """Gets the results of `needs` by name. Raises `ToolsError` when it cannot be done."""
    needs: tuple[str, ...] = ()
    tolerates: bool = False
    """True: it also runs when some of its needs failed, and gets the others."""


@dataclass(frozen=True)
class Finished:
    """How a graph ended."""

    results: Mapping[str, Any]  # Any: as `Job.run`
    failures: Mapping[str, str]
    """Job to reason; a job whose need failed says which."""


def run_jobs(jobs: Sequence[Job]) -> Finished:
    """Run all jobs, in an order that the graph allows and otherwise as given.

    Raises:
        ValueError: A name occurs twice, a need is unknown, or the graph has a cycle.
    """
    names = [job.name for job in jobs]
    if len(set(names)) != len(names):
        raise ValueError(f"jobs have one name each, got {names}")
    unknown = {need for job in jobs for need in job.needs} - set(names)
    if unknown:
        raise ValueError(f"unknown jobs are needed: {', '.join(sorted(unknown))}")
    results: dict[str, Any] = {}
    failures: dict[str, str] = {}
    waiting = list(jobs)
    while waiting:
        ready = next((job for job in waiting if all(need in results or need in failures for need in job.needs)), None)
        if ready is None:
            raise ValueError(f"jobs wait for each other: {', '.join(job.name for job in waiting)}")
        waiting.remove(ready)
        broken = [need for need in ready.needs if need in failures]
        if broken and not ready.tolerates:
            failures[ready.name] = f"needs {broken[0]}, which failed: {failures[broken[0]]}"
            continue
        try:
            results[ready.name] = ready.run({need: results[need] for need in ready.needs if need in results})
        except ToolsError as error:
            failures[ready.name] = str(error)
    return Finished(results, failures)
