"""A cheap profile of what a session builds on, while the run goes on: so that the diagnosis names what a profiler saw, not only how long it took.

One run under the profiler that disturbs least (and, for accelerators, what the compiler says), at most `RunConfig.profiles` times in a run, and only while much time is
left. What the rules found is an event of the run: a resumed run reads it there. A profile is never the score.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from agents.threads import in_thread
from tools.profiling.causes import Cause, ProfileDiagnosis
from tools.types import Candidate, Evidence, Problem, Status

if TYPE_CHECKING:
    from agents.context import RunContext
    from agents.types import Attempt

logger = logging.getLogger(__name__)

TIMEOUT_S = 60.0
"""Longest one pass may take."""
SHARE = 4.0
"""A profile is taken only if at least this many time limits are left."""
PASSES = {"cpu": ("torch",), "cuda": ("torch", "compile"), "rocm": ("torch", "compile"), "mtia": ("compile",), "sim": ("compile",)}
MAX_CAUSES = 8


class Profiler(Protocol):
    """Looks at one candidate; `CheapProfiler` is one."""

    def diagnose(self, candidate: Candidate, problem: Problem, target: str, *, seed: int, timeout_s: float) -> ProfileDiagnosis | None:
        """Return what rules find in a profile, None if nothing could be seen. Never raises for what a candidate does."""


class CheapProfiler:
    """Profiles on this machine."""

    def diagnose(self, candidate: Candidate, problem: Problem, target: str, *, seed: int, timeout_s: float) -> ProfileDiagnosis | None:
        """See `Profiler.diagnose`."""
        from tools.errors import ToolsError
        from tools.profiling.collect import Request, collect
        from tools.profiling.rules import diagnose_profile
        from tools.targets.registry import get_target

        try:
            limits = {name: limit.value for name, limit in get_target(target).limits().items()}
            passes = PASSES[target.partition(":")[0]]
            profile = collect(Request(candidate, problem, target, passes, calls=3, seed=seed, timeout_s=timeout_s))
        except ToolsError as error:
            logger.info("no profile of %s: %s", candidate.candidate_id, error)
            return None
        return diagnose_profile(profile, limits) if profile.kernels else None


async def profile_latest(context: RunContext, parents: tuple[Attempt, ...]) -> None:
    """Profile the latest parent if it passed, was not looked at before, and the run may; store what was found, also that nothing was."""
    if not parents or context.profiler is None or parents[-1].evaluation.status is not Status.PASSED:
        return
    await profiled(context, parents[-1].candidate)


async def profiled(context: RunContext, candidate: Candidate) -> ProfileDiagnosis | None:
    """Return what a profile of a candidate that passed shows: made now if the run may, else from the store; None if there is none."""
    profiler = context.profiler
    if profiler is None:
        return None
    async with context.lock("profiles"), context.slot():
        done = _profiled(context)
        left = context.seconds_left()
        if candidate.candidate_id in done:
            said = done[candidate.candidate_id]
            return None if said is None else _from_json(said)
        if len(done) >= context.config.profiles or (left is not None and left < SHARE * TIMEOUT_S):
            return None
        found = await in_thread(lambda: profiler.diagnose(candidate, context.problem, context.target, seed=context.config.seed, timeout_s=TIMEOUT_S))  # fmt: skip
        context.tell("profiled", candidate_id=candidate.candidate_id, found=None if found is None else _to_json(found))
        return found


def known_profile(context: RunContext, parents: tuple[Attempt, ...]) -> ProfileDiagnosis | None:
    """Return what the profile of the latest parent showed; None if there is none."""
    if not parents or context.profiler is None or not context.config.profiles:
        return None
    said = _profiled(context).get(parents[-1].candidate.candidate_id)
    return None if said is None else _from_json(said)


def _profiled(context: RunContext) -> dict[str, Any]:  # Any: JSON
    return {event.data["candidate_id"]: event.data["found"] for event in context.store.events(context.run_id, "profiled")}


def _to_json(found: ProfileDiagnosis) -> dict[str, Any]:  # Any: JSON
    deferred = [dataclasses.asdict(cause) for cause in found.deferred[:MAX_CAUSES]]
    return {
        "dominant": None if found.dominant is None else dataclasses.asdict(found.dominant),
        "deferred": deferred,
        "cannot_tell": list(found.cannot_tell),
        "questions": list(found.questions),
    }


def _from_json(said: Mapping[str, Any]) -> ProfileDiagnosis:  # Any: JSON
    return ProfileDiagnosis(
        dominant=None if said["dominant"] is None else _cause(said["dominant"]),
        deferred=tuple(_cause(item) for item in said["deferred"]),
        cannot_tell=tuple(said["cannot_tell"]),
        questions=tuple(said["questions"]),
    )


def _cause(said: Mapping[str, Any]) -> Cause:  # Any: JSON
    values = {**said, "evidence": tuple(said["evidence"]), "questions": tuple(said["questions"]), "seen_by": Evidence(said["seen_by"])}
    return Cause(**values)
