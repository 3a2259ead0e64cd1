"""Evaluators as actors of a Ray cluster, one per accelerator or share of the cores. Needs the extra `ray`."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agents.errors import OptionError
from agents.serving.pool import EvaluatorPool
from agents.serving.wire import kept_receipt, packed
from tools.errors import MachineError
from tools.slots import Slot
from tools.types import QUICK, Candidate, Effort, Evaluation, Problem

_START_S = 180.0


def ray_pool(home: Path, slots: Sequence[Slot], *, address: str = "", use_compiled_baseline: bool = True) -> EvaluatorPool:
    """Return a pool whose members are actors; the cluster is joined, or started on this machine if no address is given.

    Args:
        home: State directory of the actors, on each host, and of this process: receipts come back to it.
        slots: Where the actors run.
        address: Of a running cluster, for example `auto` or `ray://head:10001`; empty: a cluster of its own.
        use_compiled_baseline: As for `LocalEvaluator`.

    Raises:
        OptionError: Ray is not installed.
        MachineError: The cluster cannot be joined, or an actor does not start.
    """
    try:
        import ray
    except ImportError as err:
        raise OptionError("evaluating on Ray needs the package ray; pip install 'kernelevolve[ray]'") from err
    if not ray.is_initialized():
        try:
            ray.init(address=address or None, num_cpus=None if address else len(slots), include_dashboard=False, log_to_driver=False)
        except (ConnectionError, RuntimeError, ValueError, TimeoutError) as err:
            raise MachineError(f"no Ray cluster at {address or 'this machine'}: {err}") from err
    # Slots say what runs at a time, so actors ask Ray for no share of its own; a share that the cluster lacks would be waited for without end.
    actor = ray.remote(num_cpus=0, max_restarts=2, scheduling_strategy="SPREAD")(_Actor)
    actors: list[Any] = [actor.remote(str(home), slot, use_compiled_baseline) for slot in slots]
    try:
        ray.get([each.__ray_ready__.remote() for each in actors], timeout=_START_S)
    except (ray.exceptions.RayError, TimeoutError) as err:
        raise MachineError(f"the Ray actors did not start within {_START_S:.0f} s: {err}") from err
    return EvaluatorPool([_Member(each, home) for each in actors])


class _Actor:
    """Runs on a host of the cluster."""

    def __init__(self, home: str, slot: Slot, use_compiled_baseline: bool) -> None:
        from tools.evaluator import LocalEvaluator

        self._evaluator = LocalEvaluator(home, slot=slot, use_compiled_baseline=use_compiled_baseline)

    def evaluate(self, candidate: Candidate, problem: Problem, target: str, effort: Effort, seed: int) -> dict[str, Any]:  # Any: JSON
        """Return the evaluation with the content of its receipt."""
        return packed(self._evaluator.evaluate(candidate, problem, target, effort, seed=seed))

    def close(self) -> None:
        """End the evaluator's processes."""
        self._evaluator.close()


class _Member:
    """This side's handle on an actor."""

    def __init__(self, actor: Any, home: Path) -> None:  # Any: Ray's handles have no static type
        self._actor = actor
        self._home = home

    def evaluate(self, candidate: Candidate, problem: Problem, target: str, effort: Effort = QUICK, *, seed: int = 0) -> Evaluation:
        import ray
        from ray.exceptions import RayActorError, RayTaskError

        try:
            answer = ray.get(self._actor.evaluate.remote(candidate, problem, target, effort, seed))
        except RayTaskError as err:
            raise err.cause if isinstance(err.cause, Exception) else MachineError(str(err)) from err
        except RayActorError as err:
            raise MachineError(f"the Ray actor is gone: {err}") from err
        return kept_receipt(answer, self._home)

    def close(self) -> None:
        import ray
        from ray.exceptions import RayError

        with contextlib.suppress(RayError):
            ray.get(self._actor.close.remote(), timeout=60)
        ray.kill(self._actor)
