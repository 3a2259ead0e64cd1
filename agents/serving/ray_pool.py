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
        slots: Where the actors run, as every host of the cluster names it; for accelerators of other hosts: `accelerator_pool`.
        address: Of a running cluster, for example `auto` or `ray://head:10001`; empty: a cluster of its own.
        use_compiled_baseline: As for `LocalEvaluator`.

    Raises:
        OptionError: Ray is not installed.
        MachineError: The cluster cannot be joined, or an actor does not start.
    """
    ray = _joined(address, len(slots))
    # Slots say what runs at a time, so actors ask Ray for no share of its own; a share that the cluster lacks would be waited for without end.
    actor = ray.remote(num_cpus=0, max_restarts=2, scheduling_strategy="SPREAD")(_Actor)
    return _ready(ray, [actor.remote(str(home), slot, use_compiled_baseline) for slot in slots], home)


def accelerator_pool(home: Path, *, count: int = 0, address: str = "", use_compiled_baseline: bool = True) -> EvaluatorPool:
    """Return a pool with an actor for each accelerator of a cluster, on whichever host it is; this host may have none.

    Args:
        home: State directory of the actors, on each host, and of this process.
        count: Accelerators that are asked for; 0: all that the cluster has.
        address: Of a running cluster; empty: a cluster of its own on this machine.
        use_compiled_baseline: As for `LocalEvaluator`.

    Raises:
        OptionError: Ray is not installed.
        MachineError: The cluster cannot be joined, has not so many accelerators free, or an actor does not start.
    """
    ray = _joined(address, None)
    there, free = (int(found().get("GPU", 0)) for found in (ray.cluster_resources, ray.available_resources))
    wanted = count or there
    if not 0 < wanted <= free:
        raise MachineError(f"{max(wanted, 1)} actors need as many accelerators; the Ray cluster has {there}, {free} of them free")
    actor = ray.remote(num_cpus=0, num_gpus=1, max_restarts=2, scheduling_strategy="SPREAD")(_Actor)
    return _ready(ray, [actor.remote(str(home), None, use_compiled_baseline) for _ in range(wanted)], home)


def _joined(address: str, num_cpus: int | None) -> Any:  # Any: the module ray
    """Return the module, with this process in a cluster."""
    try:
        import ray
    except ImportError as err:
        raise OptionError("evaluating on Ray needs the package ray; pip install 'kernelevolve[ray]'") from err
    if not ray.is_initialized():
        try:
            ray.init(address=address or None, num_cpus=None if address else num_cpus, include_dashboard=False, log_to_driver=False)
        except (ConnectionError, RuntimeError, ValueError, TimeoutError) as err:
            raise MachineError(f"no Ray cluster at {address or 'this machine'}: {err}") from err
    return ray


def _ready(ray: Any, actors: list[Any], home: Path) -> EvaluatorPool:  # Any: Ray's module and handles have no static type
    try:
        ray.get([each.__ray_ready__.remote() for each in actors], timeout=_START_S)
    except (ray.exceptions.RayError, TimeoutError) as err:
        for each in actors:
            ray.kill(each)
        raise MachineError(f"the Ray actors did not start within {_START_S:.0f} s: {err}") from err
    return EvaluatorPool([_Member(each, home) for each in actors])


class _Actor:
    """Runs on a host of the cluster."""

    def __init__(self, home: str, slot: Slot | None, use_compiled_baseline: bool) -> None:
        """Make the evaluator; without a slot it is the accelerator that Ray has given to this actor."""
        from tools.evaluator import LocalEvaluator

        if slot is None:
            import ray

            slot = Slot(accelerator=",".join(map(str, ray.get_gpu_ids())))
        self._slot = slot
        self._evaluator = LocalEvaluator(home, slot=slot, use_compiled_baseline=use_compiled_baseline)

    def evaluate(self, candidate: Candidate, problem: Problem, target: str, effort: Effort, seed: int) -> dict[str, Any]:  # Any: JSON
        """Return the evaluation with the content of its receipt."""
        return packed(self._evaluator.evaluate(candidate, problem, target, effort, seed=seed))

    def place(self) -> str:
        """Return the name of the slot."""
        return self._slot.name

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
